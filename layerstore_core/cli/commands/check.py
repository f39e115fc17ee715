"""`layerstore check`: find damage in a store, and repair it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from layerstore_core.cli import output, progress
from layerstore_core.cli.parameters import PathType, json_option
from layerstore_core.cli.session import Session
from layerstore_core.errors import note_done

if TYPE_CHECKING:
    from layerstore_core.maintenance.check import Finding


@click.command()
@click.option(
    "--full",
    is_flag=True,
    help="Also read every layer: compare its tar with its diff ID, and its files with its tar.",
)
@click.option("--resume", is_flag=True, help="With --full: skip the layers that an interrupted check has verified.")
@click.option(
    "--repair", is_flag=True, help="Repair what can be repaired; files that are in the way go into quarantine."
)
@click.option(
    "--from",
    "source",
    metavar="FILE",
    type=PathType(exists=True),
    help="With --repair: image archive or layer tar to rebuild damaged layers from.",
)
@click.option(
    "--force",
    is_flag=True,
    help="With --repair: also put the records of layers that cannot be repaired into quarantine.",
)
@json_option
@click.pass_context
def check(context: click.Context, *, full: bool, resume: bool, repair: bool, source: str | None, force: bool) -> None:
    """Look for damage and stale files.

    Each line is a finding with what to do about it. The exit code is 1 if there is a finding; with --repair, if
    one remains.

    \b
    Examples:
      layerstore check
      layerstore check --full --repair
      layerstore check --full --repair --from image.tar
    """
    if (source or force) and not repair:
        raise click.UsageError("--from and --force need --repair: add it, or leave them out")
    if resume and not full:
        raise click.UsageError("--resume needs --full: add it, or leave --resume out")
    session = context.ensure_object(Session)
    repaired: list[tuple[Finding, str]] = []

    def check_and_repair() -> list[Finding]:
        with session.open(reading=not repair, content=full) as store, ExitStack() as opened:
            from layerstore_core.maintenance import check as checks

            with progress.of_layers("Checking") as report:
                findings = checks.check_store(store, full=full, resume=resume, progress=report)
            if not repair or not findings:
                return findings
            try:
                repair_source = opened.enter_context(checks.RepairSource(store, source)) if source else None
                return checks.repair(
                    store,
                    findings,
                    source=repair_source,
                    force=force,
                    on_repaired=lambda finding, done: repaired.append((finding, done)),
                )
            except BaseException as error:
                if repaired:
                    repaired_findings = [finding for finding, _ in repaired]
                    note_done(error, [finding for finding in findings if finding not in repaired_findings])
                raise

    def answer(remaining: list[Finding]) -> None:
        done_lines = [
            f"repaired: {finding.code}: {finding.subject}: {finding.message}: {done}" for finding, done in repaired
        ]
        document = {
            "findings": [asdict(finding) for finding in remaining],
            "repaired": [{**asdict(finding), "done": done} for finding, done in repaired],
        }
        session.answer(document, lambda: [output.printable(line) for line in (*done_lines, *map(str, remaining))])

    if session.answer_for(check_and_repair, answer):
        context.exit(1)
