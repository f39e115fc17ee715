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
@click.option("--only", metavar="GROUP", multiple=True, help="Run only this group of tests; may be repeated.")
@click.option("-k", "test", metavar="TEST", default="", help="Run only tests of this name, or pytest expression.")
@click.option("--seed", metavar="N", type=int, help="Seed of the random sequences.")
@click.option("--examples", metavar="N", type=click.IntRange(1), help="Number of random sequences to try.")
@click.option("--speed", is_flag=True, help="Also measure the speed, and compare it with vfs.")
@click.option("--replay", metavar="FILE", type=_FILE, help="Only replay this sequence, which failed before.")
@click.option(
    "--report",
    metavar="FILE",
    type=_FILE,
    multiple=True,
    help="Write a report to FILE: .json, .xml (JUnit), .md or .txt; may be repeated.",
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

    For each failure it prints what the contract demands and what a user would lose. The exit code is 1 if a test
    failed, or if none could be run. With -v the tests' own output goes to standard error.

    The tests need an extra: pip install 'layerstore-core[conformance]'.

    \b
    Examples:
      layerstore conformance vfs
      layerstore conformance btrfs --root /mnt/btrfs --report report.md
      layerstore conformance mydriver --only lifecycle --only content
    """
    from layerstore_core.conformance.runner import Request, require_extra, run_installed

    require_extra()
    from layerstore_core.conformance.reports import check_report_name, write_report
    from layerstore_core.conformance.reports.text import text_lines
    from layerstore_core.conformance.results import GROUP_NAMES

    report: tuple[Path, ...] = options.pop("report")
    own_options: dict[str, str] = dict(options.pop("driver_opt"))
    unknown = sorted(set(options["only"]) - set(GROUP_NAMES))
    if unknown:
        raise click.UsageError(f"there is no group of tests {unknown[0]!r}; the groups are {', '.join(GROUP_NAMES)}.")
    for path in report:
        check_report_name(path)
    session = context.ensure_object(Session)
    options["root"] = options["root"] or session.root
    request = Request(driver, {**session.driver_options, **own_options}, **options)
    _enter_namespace(driver, session)
    run = run_installed(request, sys.stderr.buffer if session.verbosity else None)
    for path in report:
        write_report(run, path)
    session.answer(run.document(), lambda: map(output.printable, text_lines(run)))
    if any(one.verdict in ("failed", "not tried") for one in run.drivers) or not run.drivers:
        context.exit(1)


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
