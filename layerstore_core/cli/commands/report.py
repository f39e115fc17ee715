"""`layerstore report`: a report on an image, on two images, or on the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import IMAGE, PathType, json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
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
@json_option
@click.pass_obj
def report(session: Session, image: tuple[str, ...], *, file: str | None, whole_store: bool, markdown: bool) -> None:
    """Report on an image, on what differs in two, or on a store.

    The report says what the layers of IMAGE write and waste, which files are duplicates, and which packages there are.
    With two images it also says what differs from the first to the second. Nothing is mounted.

    -o writes a page. --markdown prints a short text, which is also what is printed without an option, and --json all
    details. A page can be written at the same time.

    \b
    Examples:
      layerstore report app:1 -o report.html
      layerstore report debian:12 debian:13 --markdown
      layerstore report app:1 --json | jq .image.wasted
      layerstore report --store -o store.html
    """
    if whole_store and image:
        raise click.UsageError("--store reports on the whole store, and takes no IMAGE")
    if not (whole_store or 1 <= len(image) <= 2):
        raise click.UsageError("give one IMAGE, two IMAGEs to compare, or --store")
    if markdown and session.json:
        raise click.UsageError("--markdown and --json cannot be combined: both are for standard output")
    if file == "-" and (markdown or session.json):
        raise click.UsageError("-o - writes the page to standard output, where --json and --markdown write, too")
    with session.open(reading=True, content=True) as store:
        document = _document(store, image)
    if file is not None:
        _write_page(document, file)
    if session.json:
        output.write_document(document)
        return
    if file is not None and not markdown:
        return
    from layerstore_core.report.markdown import markdown as text_of

    output.write_lines(text_of(document).splitlines())


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
