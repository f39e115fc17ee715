"""Writable layers: what the commands `rw create`, `mount`, `umount` and `rm` do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from layerstore_core.cli import output
from layerstore_core.cli.describe import removed_document, rw_document
from layerstore_core.errors import LayerStoreError

if TYPE_CHECKING:
    from layerstore_core.cli.session import Session
    from layerstore_core.store.handles import RWLayer
    from layerstore_core.store.nodes import RemovedLayer
    from layerstore_core.store.store import LayerStore


class LayerInUse(LayerStoreError):
    """The layer cannot be removed: a child, a writable layer, an image, a snapshot or another process uses it."""


def create(session: Session, name: str, make: Callable[[LayerStore], RWLayer]) -> None:
    """Create a writable layer, and print its name.

    Args:
        session: the session.
        name: the name.
        make: creates it.
    """
    with session.open(create=True) as store, make(store) as rw:
        document = rw_document(store.context.db.read_mount(rw.name))
    session.answer(document, lambda: [output.printable(name)])


def mount(session: Session, name: str, label: str = "") -> None:
    """Mount a writable layer, and print the path of its tree.

    Args:
        session: the session.
        name: the name.
        label: the SELinux label of the mount.
    """
    with session.open(lasting=True) as store, store.get_rw_layer(name) as rw:
        path = rw.mount(label, keep=True)
    # Programs read the path: print it as it is, without escapes.
    session.answer({"name": name, "path": str(path)}, lambda: [str(path)])


def umount(session: Session, name: str) -> None:
    """Unmount a writable layer."""
    with session.open() as store, store.get_rw_layer(name) as rw:
        rw.unmount()
    session.answer({"name": name}, lambda: ())


def remove(session: Session, name: str) -> None:
    """Remove a writable layer, and print the chain IDs of the layers that were removed with it.

    Raises:
        LayerInUse: another process uses it.
    """

    def remove() -> list[RemovedLayer]:
        with session.open() as store:
            rw = store.get_rw_layer(name)
            mount_id = store.mount_id(name)
            removed = store.release_rw_layer(rw)
            # Compare by ID: another process may have created a new writable layer of this name.
            if store.context.db.mount_id(name) == mount_id:
                raise LayerInUse(
                    f"writable layer {name!r} is not removed: another process uses it; "
                    "try again when that process has ended"
                )
            return removed

    def answer(removed: list[RemovedLayer]) -> None:
        session.answer({"name": name, **removed_document(removed)}, lambda: [layer.chain_id for layer in removed])

    session.answer_for(remove, answer)
