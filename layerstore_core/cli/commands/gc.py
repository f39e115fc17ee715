"""`layerstore gc`: remove unreferenced layers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.maintenance.gc import Removed


@click.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@json_option
@click.pass_obj
def gc(session: Session, dry_run: bool) -> None:
    """Remove unreferenced layers and stale files.

    Each line is something removed: its kind, its name and its size. A layer is kept if it is pinned, has a child
    that stays, belongs to a writable layer or an image, or is in use by any process.

    \b
    Examples:
      layerstore gc --dry-run
      layerstore gc
    """

    def collect() -> list[Removed]:
        with session.open() as store:
            from layerstore_core.maintenance.gc import collect_garbage

            return collect_garbage(store, dry_run=dry_run)

    def answer(removed: list[Removed]) -> None:
        freed = sum(item.bytes for item in removed)
        if removed and not session.json:
            click.echo(f"{'Would free' if dry_run else 'Freed'} {output.human_size(freed)}", err=True)

        def lines() -> list[str]:
            return output.columns(
                (item.kind, output.printable(item.name), output.human_size(item.bytes)) for item in removed
            )

        session.answer({"dry_run": dry_run, "freed": freed, "removed": [asdict(item) for item in removed]}, lines)

    session.answer_for(collect, answer)
