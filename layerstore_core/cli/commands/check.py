"""`layerstore check`: is everything what it should be."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from layerstore_core.cli import output, progress
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.check import Finding


@click.command()
@click.option(
    "--full", is_flag=True, help="Also read every layer: compare its tar with its diff ID, and its files with the tar."
)
@click.option("--resume", is_flag=True, help="With --full: leave out what an interrupted check has verified.")
@click.option("--repair", is_flag=True, help="Mend what can be mended; what is in the way goes into quarantine.")
@click.option(
    "--from",
    "source",
    metavar="FILE",
    type=click.Path(exists=True),
    help="With --repair: an image archive or a layer's tar to make damaged layers anew from.",
)
@click.option("--force", is_flag=True, help="With --repair: put what nothing can mend into quarantine, too.")
@json_option
@click.pass_context
def check(context: click.Context, *, full: bool, resume: bool, repair: bool, source: str | None, force: bool) -> None:
    """Look for damage and leftovers.

    Each line is a finding and what to do about it. The exit code is 1 where there is a finding; with --repair, where one remains.

    \b
    Examples:
      layerstore check
      layerstore check --full --repair
      layerstore check --full --repair --from image.tar
    """
    if (source or force) and not repair:
        raise click.UsageError("--from and --force go with --repair")
    if resume and not full:
        raise click.UsageError("--resume goes with --full")
    session = context.ensure_object(Session)
    repaired: list[tuple[Finding, str]] = []
    with session.open(reading=not repair) as store:
        from layerstore_core import check as checks

        with progress.of_layers("Checking") as report:
            findings = checks.check_store(store, full=full, resume=resume, progress=report)
        if repair and findings:
            with ExitStack() as opened:
                given = opened.enter_context(checks.RepairSource(store, source)) if source else None
                findings = checks.repair(
                    store,
                    findings,
                    source=given,
                    force=force,
                    on_repaired=lambda finding, done: repaired.append((finding, done)),
                )

    def lines() -> list[str]:
        found = [
            f"repaired: {finding.code}: {finding.subject}: {finding.message}: {done}" for finding, done in repaired
        ]
        return [output.printable(line) for line in (*found, *map(str, findings))]

    document = {
        "findings": [asdict(finding) for finding in findings],
        "repaired": [{**asdict(finding), "done": done} for finding, done in repaired],
    }
    session.answer(document, lines)
    if findings:
        context.exit(1)
