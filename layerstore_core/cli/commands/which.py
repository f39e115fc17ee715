"""`layerstore which`: show which layer a path comes from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from layerstore_core.base.digests import ChainID
from layerstore_core.base.paths import clean_name
from layerstore_core.cli import output
from layerstore_core.cli.parameters import CHAIN, json_option
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.cli.views import OpenView
    from layerstore_core.store.store import LayerStore
    from layerstore_core.view.history import LayerChange

#: Words for changes in JSON answers, which do not change, by the values of `ChangeKind`.
_WORDS: Final = {"A": "added", "C": "changed", "D": "deleted"}


@click.command()
@click.argument("image", metavar="IMAGE|CHAIN", type=CHAIN)
@click.argument("path")
@click.option("-P", "--no-dereference", is_flag=True, help="If PATH is a symbolic link, show the link itself.")
@json_option
@click.pass_obj
def which(session: Session, image: str, path: str, no_dereference: bool) -> None:
    """Show which layer and build step a path comes from.

    The layer that has made the file as it is comes first, and then each that has changed, deleted or added it before.
    A path that is deleted in the image can be asked for, too. CREATED BY is the step of the image's history.

    \b
    Examples:
      layerstore which debian:12 /os
      layerstore which 3f1c9a2b /hosts --json
    """
    with session.open(reading=True) as store:
        from layerstore_core.cli.views import opened_view, shown

        with opened_view(store, image) as opened:
            # Most paths lead through no link. Then the layers are merged only once.
            guess = clean_name(b"/" + os.fsencode(path))
            changes = opened.view.changes_to(guess)
            real, exists = _find(opened, os.fsencode(path), follow=not no_dereference)
            steps = _steps(store, opened, changes if real == guess else opened.view.changes_to(real))
            if not steps:
                # No layer has ever had it: the error of looking it up says so.
                opened.view.find(os.fsencode(path))
            document = {
                "id": opened.image_id,
                "chain_id": opened.chain_id,
                "path": shown(real),
                "exists": exists,
                "steps": steps,
            }

    def lines() -> list[str]:
        rows = [("LAYER", "CHANGE", "CREATED BY")]
        rows += [
            (ChainID(step["chain_id"]).hex[:12], step["change"], output.printable(step["created_by"])) for step in steps
        ]
        return output.columns(rows)

    session.answer(document, lines)


def _find(opened: OpenView, path: bytes, *, follow: bool) -> tuple[bytes, bool]:
    """Return the path without symbolic links, and whether it exists; of a missing one, only its directory is looked up.

    Raises:
        OSError: there is not even a directory of this name, or the links form a loop.
    """
    try:
        return opened.view.find(path, follow=follow)[0], True
    except (FileNotFoundError, NotADirectoryError):
        clean = clean_name(b"/" + path)
        above, _, base = clean.rpartition(b"/")
        try:
            real, _ = opened.view.find(above)
        except OSError:
            return clean, False  # the directory was deleted, too
        return real + b"/" + base if real else base, False


def _steps(store: LayerStore, opened: OpenView, changes: Sequence[LayerChange]) -> list[dict[str, Any]]:
    """Return what the layers have done to a path as JSON objects, the last change first."""
    history = {}
    if opened.image is not None:
        from layerstore_core.images.api.images import Images

        history = {step.layer: step for step in Images(store).history(opened.image) if step.layer is not None}
    steps = []
    for change in reversed(changes):
        layer = opened.chain_ids[change.layer]
        step = history.get(layer)
        steps.append(
            {
                "chain_id": str(layer),
                "change": _WORDS[change.kind.value],
                "created": step.created if step else "",
                "created_by": step.created_by if step else "",
                "comment": step.comment if step else "",
            }
        )
    return steps
