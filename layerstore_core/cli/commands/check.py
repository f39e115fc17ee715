"""`layerstore check`: is everything what it should be."""

from __future__ import annotations

from dataclasses import asdict

import click

from layerstore_core.cli import output, progress
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session


@click.command()
@click.option("--full", is_flag=True, help="Also read every layer and compare it with its diff ID.")
@click.option("--repair", is_flag=True, help="Mend what can be mended without losing a layer that is whole.")
@json_option
@click.pass_context
def check(context: click.Context, full: bool, repair: bool) -> None:
    """Look for damage and leftovers.

    Each line is a finding and what to do about it. The exit code is 1 where there is a finding; with --repair, where one remains.

    \b
    Examples:
      layerstore check
      layerstore check --full --repair
    """
    session = context.ensure_object(Session)
    with session.open(reading=not repair) as store:
        from layerstore_core import check as checks

        with progress.of_layers("Checking") as report:
            findings = checks.check_store(store, full=full, progress=report)
        remaining = checks.repair(store, findings) if repair else findings
    repaired = [finding for finding in findings if finding not in remaining]

    def lines() -> list[str]:
        found = [f"repaired: {finding.code}: {finding.subject}: {finding.message}" for finding in repaired]
        return [output.printable(line) for line in (*found, *map(str, remaining))]

    document = {
        "findings": [asdict(finding) for finding in remaining],
        "repaired": [asdict(finding) for finding in repaired],
    }
    session.answer(document, lines)
    if remaining:
        context.exit(1)
