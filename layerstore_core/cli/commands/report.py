"""`layerstore report`: a report on an image, on two images, or on the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import IMAGE, PathType, json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.config.rules import Rule
    from layerstore_core.report.rules import RuleResult
    from layerstore_core.store.store import LayerStore


@click.command()
@click.argument("image", type=IMAGE, nargs=-1)
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    type=PathType(dir_okay=False, readable=False, allow_dash=True),
    help="Write a page to look at in a browser: one HTML file that needs no network; '-' is standard output.",
)
@click.option("--store", "whole_store", is_flag=True, help="Report on the store rather than on images.")
@click.option("--markdown", is_flag=True, help="Print a short text in Markdown, for a pull request.")
@click.option("--fail-under", metavar="NAME=VALUE", multiple=True, help="The least that a number of IMAGE may be.")
@click.option("--max", "most", metavar="NAME=VALUE", multiple=True, help="The most that a number of IMAGE may be.")
@click.option("--baseline", type=IMAGE, help="Compare with this image, and allow rules about growth.")
@click.option(
    "--junit", metavar="FILE", type=PathType(dir_okay=False), help="Write the results of the rules as JUnit XML."
)
@json_option
@click.pass_obj
@click.pass_context
def report(
    context: click.Context,
    session: Session,
    image: tuple[str, ...],
    *,
    file: str | None,
    whole_store: bool,
    markdown: bool,
    fail_under: tuple[str, ...],
    most: tuple[str, ...],
    baseline: str | None,
    junit: str | None,
) -> None:
    """Report on an image, on what differs in two, or on a store.

    The report says what the layers of IMAGE write and waste, which files are duplicates, and which packages there are.
    With two images it also says what differs from the first to the second. Nothing is mounted.

    -o writes a page. --markdown prints a short text, which is also what is printed without an option, and --json all
    details. A page can be written at the same time.

    --fail-under and --max are rules, as is the table [report] of the configuration. A number is efficiency, wasted,
    overwritten, deleted, duplicated, size, written, layers, files, packages, or, with two images, growth. If a rule
    fails, that is said on standard error, and the exit code is 1. The value off takes a rule of the configuration away.

    \b
    Examples:
      layerstore report app:1 -o report.html
      layerstore report debian:12 debian:13 --markdown
      layerstore report app:1 --json | jq .image.wasted
      layerstore report --store -o store.html
      layerstore report app:1 --fail-under efficiency=0.2 --max wasted=20MB --max layers=9 --junit report.xml
      layerstore report debian:13 --baseline debian:12 --max growth=500% --markdown
    """
    if whole_store and image:
        raise click.UsageError("--store reports on the whole store, and takes no IMAGE")
    if not (whole_store or 1 <= len(image) <= 2):
        raise click.UsageError("give one IMAGE, two IMAGEs to compare, or --store")
    if markdown and session.json:
        raise click.UsageError("--markdown and --json cannot be combined: both are for standard output")
    if file == "-" and (markdown or session.json):
        raise click.UsageError("-o - writes the page to standard output, where --json and --markdown write, too")
    if baseline is not None:
        if len(image) != 1:
            raise click.UsageError("--baseline takes one IMAGE, which is compared with it")
        image = (baseline, *image)
    rules = _rules(session, fail_under, most, images=len(image))
    if junit is not None and not rules:
        raise click.UsageError("--junit writes what has become of rules; give --fail-under or --max")
    with session.open(reading=True, content=True) as store:
        document = _document(store, image)
    results = _apply(rules, document, junit)
    if file is not None:
        _write_page(document, file)
    if session.json:
        output.write_document(document)
    elif file is None or markdown:
        from layerstore_core.report.markdown import markdown as text_of

        output.write_lines(text_of(document).splitlines())
    failed = [one.line for one in results if not one.passed]
    if failed:
        output.write_error("RuleFailed", failed[0], failed[1:], as_json=session.json)
        context.exit(1)


def _rules(session: Session, fail_under: tuple[str, ...], most: tuple[str, ...], *, images: int) -> tuple[Rule, ...]:
    """Return the rules that count for a report on so many images."""
    from layerstore_core.config.rules import merged_rules

    if not images:
        if fail_under or most:
            raise click.UsageError("--fail-under and --max are for an IMAGE, not for the store")
        return ()
    table = session.config().report
    try:
        return merged_rules(table, {"fail_under": fail_under, "max": most}, baseline=images == 2)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _apply(rules: tuple[Rule, ...], document: dict[str, Any], junit: str | None) -> tuple[RuleResult, ...]:
    """Add what has become of the rules to the document, and write it as JUnit XML."""
    if not rules:
        return ()
    from layerstore_core.report.rules import evaluate

    results = evaluate(rules, document)
    document["rules"] = [one.document() for one in results]
    if junit is not None:
        from layerstore_core.base.replace_file import replacing
        from layerstore_core.report.junit import junit as junit_of

        with replacing(junit) as file:
            file.write(junit_of(document["image"]["name"], results))
    return results


def _write_page(document: dict[str, Any], file: str) -> None:
    """Write the page of a report to a file, which appears whole or not at all, or to standard output."""
    from layerstore_core.report.page.html import page

    text = page(document)
    if file == "-":
        out = output.StandardOutput()
        out.write(text)
        out.flush()
        return
    from layerstore_core.base.replace_file import replacing

    with replacing(file) as target:
        target.write(text)


def _document(store: LayerStore, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the document of the report on images, or on the store if none are named."""
    from layerstore_core.report.document import comparison_report, image_report, store_report

    if not names:
        from layerstore_core.maintenance.usage import disk_usage

        return store_report(disk_usage(store))
    from layerstore_core.images import Images

    images = Images(store)
    found = [images.get(name) for name in names]
    analyses = [images.analyze(one) for one in found]
    if len(found) == 1:
        return image_report(analyses[0])
    return comparison_report(analyses[0], analyses[1], images.diff(found[0], found[1]))
