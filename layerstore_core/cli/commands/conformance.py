"""`layerstore conformance`: test whether a driver keeps the contract."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import KEY_VALUE, PathType, json_option
from layerstore_core.cli.session import Session
from layerstore_core.errors import LayerStoreError, UserNamespaceError

_DIRECTORY = PathType(file_okay=False, path_type=Path)
_FILE = PathType(dir_okay=False, path_type=Path)


@click.command()
@click.argument("driver")
@click.option(
    "--driver-opt", metavar="KEY=VALUE", type=KEY_VALUE, multiple=True, help="Option of the driver; may be repeated."
)
@click.option(
    "--root",
    metavar="DIR",
    type=_DIRECTORY,
    help="Test in a new directory below DIR. [default: a temporary directory]",
)
@click.option("--quick", is_flag=True, help="Run only the tests that find most faults for their time.")
@click.option("--only", metavar="GROUP", multiple=True, help="Run only this group of tests; may be repeated.")
@click.option("-k", "test", metavar="TEST", default="", help="Run only tests of this name, or pytest expression.")
@click.option("--last-failed", is_flag=True, help="Run only the tests that failed in the last run of this driver.")
@click.option("--jobs", metavar="N", type=click.IntRange(1, 64), default=1, help="Number of processes. [default: 1]")
@click.option("--keep", is_flag=True, help="Keep roots, mounts and logs of failed tests, to look at them.")
@click.option("--watch", is_flag=True, help="Run again when the driver's package changes, until Ctrl-C.")
@click.option("--seed", metavar="N", type=click.IntRange(0), help="Seed of the random sequences.")
@click.option("--examples", metavar="N", type=click.IntRange(1), help="Number of random sequences to try.")
@click.option("--speed", is_flag=True, help="Also measure the speed, and compare it with vfs and overlay2.")
@click.option("--replay", metavar="FILE", type=_FILE, help="Only replay this sequence, which failed before.")
@click.option(
    "--report",
    metavar="FILE",
    type=_FILE,
    multiple=True,
    help="Write a report to FILE: .html, .md, .txt, .json or .xml (JUnit); may be repeated.",
)
@json_option
@click.pass_context
def conformance(
    context: click.Context,
    /,
    driver: str,
    **options: Any,
) -> None:
    """Test whether an installed driver keeps the contract.

    It prints a verdict for each group of tests, and one for the driver: "conforms" only after a run of the whole kit.
    For each failure it prints what the contract demands, what a user would lose, what differs, and where to look. The
    exit code is 1 if a test failed, or if none could be run. With -v the tests' own output goes to standard error.

    Tests that a driver is known to fail are declared in its package: then they are "limited". The guide "The
    conformance kit" (docs/conformance.md) has this, the groups, and the kit in a driver's own test suite.

    The tests need an extra: pip install 'layerstore-core[conformance]'; --jobs and --watch need another one,
    'layerstore-core[conformance-tools]'.

    \b
    Examples:
      layerstore conformance vfs
      layerstore conformance btrfs --root /mnt/btrfs --report report.md
      layerstore conformance mydriver --only lifecycle --only content
      layerstore conformance mydriver --quick --jobs 2
      layerstore conformance mydriver -k test_long_names --keep
    """
    from layerstore_core.conformance.command.runner import Request, require_extra, run_installed

    require_extra()
    from layerstore_core.conformance.outcomes.results import GROUP_NAMES
    from layerstore_core.conformance.reports import check_report_name, write_report
    from layerstore_core.conformance.reports.text import text_lines

    report: tuple[Path, ...] = options.pop("report")
    own_options: dict[str, str] = dict(options.pop("driver_opt"))
    unknown = sorted(set(options["only"]) - set(GROUP_NAMES))
    if unknown:
        raise click.UsageError(f"there is no group of tests {unknown[0]!r}; the groups are {', '.join(GROUP_NAMES)}.")
    for path in report:
        check_report_name(path)
    session = context.ensure_object(Session)
    if options.pop("watch"):
        context.exit(_watch(driver))
    options["root"] = options["root"] or session.root
    request = Request(driver, {**session.driver_options, **own_options}, **options)
    _enter_namespace(driver, session)
    run = run_installed(request, sys.stderr.buffer if session.verbosity else None)
    for path in report:
        write_report(run, path)
    session.answer(run.document(), lambda: map(output.printable, text_lines(run)))
    if any(one.verdict in ("failed", "not tried") for one in run.drivers):
        context.exit(1)


def _watch(driver: str) -> int:
    """Run the same command line without `--watch` in a process, now and after each change of the driver."""
    from layerstore_core.conformance.command.watching import places_of, run_at_each_change

    command = [sys.executable, "-m", "layerstore_core", *(word for word in sys.argv[1:] if word != "--watch")]
    return run_at_each_change(command, places_of(driver), lambda line: click.echo(output.printable(line), err=True))


def _enter_namespace(driver: str, session: Session) -> None:
    """Enter a user namespace if the driver needs one. If none can be entered, the tests say what fails."""
    from layerstore_core.driver.namespace import driver_needs_namespace
    from layerstore_core.rootless.enter import enter

    try:
        if driver_needs_namespace(driver):
            enter()
    except UserNamespaceError as error:
        session.outside_because = error
    except LayerStoreError:
        pass  # the driver is not installed, or cannot be imported
