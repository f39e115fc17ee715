"""`layerstore rw …`: writable layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from layerstore_core.base.digests import ChainID
from layerstore_core.cli import output
from layerstore_core.cli.commands.register import register_pinned
from layerstore_core.cli.commands.rm import LayerInUse, removed_document
from layerstore_core.cli.describe import parent_of, rw_document, rw_documents, short_length
from layerstore_core.cli.parameters import (
    CHAIN,
    IMAGE,
    KEY_VALUE,
    MOUNT_NAME,
    json_option,
    resolve_image,
    resolve_parent,
)
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.store.nodes import RemovedLayer


@click.group()
def rw() -> None:
    """Make, mount, compare, commit and remove writable layers.

    \b
    Example:
      layerstore rw create work --parent 3f1c9a2b
      touch "$(layerstore rw mount work)/new"
      layerstore rw changes work
      layerstore rw umount work
      layerstore rw commit work
      layerstore rw rm work
    """


@rw.command()
@click.argument("name", type=MOUNT_NAME)
@click.option(
    "--parent", metavar="CHAIN", type=CHAIN, help="The layer to stand on, or an image; without it the tree is empty."
)
@click.option("--image", metavar="IMAGE", type=IMAGE, help="The image to stand on, instead of a layer.")
@click.option("--mount-label", metavar="LABEL", default="", help="SELinux label for the files.")
@click.option(
    "--storage-opt",
    metavar="KEY=VALUE",
    type=KEY_VALUE,
    multiple=True,
    help="An option of this layer, such as size=10G; may be repeated.",
)
@json_option
@click.pass_obj
def create(
    session: Session,
    *,
    name: str,
    parent: str | None,
    image: str | None,
    mount_label: str,
    storage_opt: tuple[tuple[str, str], ...],
) -> None:
    """Make a writable layer and print its name.

    \b
    Examples:
      layerstore rw create work --parent 3f1c9a2b
      layerstore rw create work --image debian:12
    """
    if parent is not None and image is not None:
        raise click.UsageError("a writable layer stands on a layer or on an image: give --parent or --image, not both")
    with session.open(create=True) as store:
        below = resolve_parent(store, parent) if image is None else resolve_image(store, image)
        rw = store.create_rw_layer(name, below, mount_label=mount_label, storage_opt=dict(storage_opt) or None)
        with rw:
            document = rw_document(store.context.db.read_mount(rw.name))
    session.answer(document, lambda: [output.printable(name)])


@rw.command("ls")
@json_option
@click.pass_obj
def list_rw(session: Session) -> None:
    """List the writable layers and what they stand on.

    \b
    Example:
      layerstore rw ls
    """
    with session.open(reading=True) as store:
        found = rw_documents(store)
        digits = short_length(store.chain_ids())

    def lines() -> list[str]:
        rows = [("NAME", "PARENT")] if found else []
        for entry in found:
            parent = entry["parent"]
            rows.append((output.printable(entry["name"]), ChainID(parent).hex[:digits] if parent else "none"))
        return output.columns(rows)

    session.answer({"rw_layers": found}, lines)


@rw.command()
@click.argument("name", type=MOUNT_NAME)
@click.option("--mount-label", metavar="LABEL", default="", help="SELinux label for the mount.")
@json_option
@click.pass_obj
def mount(session: Session, name: str, mount_label: str) -> None:
    """Mount a writable layer and print the path of its tree.

    It stays mounted until 'layerstore rw umount'.

    \b
    Example:
      cd "$(layerstore rw mount work)"
    """
    with session.open() as store, store.get_rw_layer(name) as rw:
        path = rw.mount(mount_label, keep=True)
    # The path as it is, not made printable: it is for programs.
    session.answer({"name": name, "path": str(path)}, lambda: [str(path)])


@rw.command()
@click.argument("name", type=MOUNT_NAME)
@json_option
@click.pass_obj
def umount(session: Session, name: str) -> None:
    """Unmount a writable layer; what was written stays.

    \b
    Example:
      layerstore rw umount work
    """
    with session.open() as store, store.get_rw_layer(name) as rw:
        rw.unmount()
    session.answer({"name": name}, lambda: ())


@rw.command()
@click.argument("name", type=MOUNT_NAME)
@json_option
@click.pass_obj
def changes(session: Session, name: str) -> None:
    """Print what a writable layer changes.

    A line is A (added), C (changed) or D (deleted) and the path. Control characters in a path are written as
    \\n, \\t or \\x1b, a backslash as \\\\.

    \b
    Example:
      layerstore rw changes work
    """
    with session.open(reading=True) as store, store.get_rw_layer(name) as rw:
        pairs = [str(change).split(" ", 1) for change in rw.changes()]
    document = {"name": name, "changes": [{"kind": kind, "path": path} for kind, path in pairs]}
    session.answer(document, lambda: [f"{kind} {output.printable(path, path=True)}" for kind, path in pairs])


@rw.command()
@click.argument("name", type=MOUNT_NAME)
@json_option
@click.pass_obj
def commit(session: Session, name: str) -> None:
    """Store the changes as a layer, and print its chain ID.

    The layer stands on the parent of the writable layer, and is pinned. The writable layer itself stays as it is.

    \b
    Example:
      layerstore rw commit work
    """
    with session.open() as store, store.get_rw_layer(name) as rw, rw.tar_stream() as stream:
        document = register_pinned(store, stream, parent_of(rw) or "", "Committing", allow_empty=True)
    session.answer(document, lambda: [document["chain_id"]])


@rw.command()
@click.argument("name", type=MOUNT_NAME)
@json_option
@click.pass_obj
def rm(session: Session, name: str) -> None:
    """Remove a writable layer and all that was written in it.

    Prints the chain IDs of layers that only it had kept. One that another process uses stays as it is: that is an error.

    \b
    Example:
      layerstore rw rm work
    """

    def remove() -> list[RemovedLayer]:
        with session.open() as store:
            rw = store.get_rw_layer(name)
            mount_id = store.mount_id(name)
            removed = store.release_rw_layer(rw)
            # By its ID: another of the same name may have been made since.
            if store.context.db.mount_id(name) == mount_id:
                raise LayerInUse(
                    f"writable layer {name!r} is not removed: another process uses it; try again when that has ended"
                )
            return removed

    def answer(removed: list[RemovedLayer]) -> None:
        session.answer({"name": name, **removed_document(removed)}, lambda: [layer.chain_id for layer in removed])

    session.answer_for(remove, answer)
