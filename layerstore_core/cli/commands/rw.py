"""`layerstore rw …`: create, mount, compare, commit and remove writable layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from layerstore_core.base.digests import ChainID
from layerstore_core.cli import output
from layerstore_core.cli.commands.register import register_pinned
from layerstore_core.cli.commands.rm import LayerInUse
from layerstore_core.cli.describe import parent_of, removed_document, rw_document, rw_documents, short_length
from layerstore_core.cli.parameters import (
    CHAIN,
    IMAGE,
    KEY_VALUE,
    MOUNT_NAME,
    json_option,
    platform_option,
    resolve_image_or_chain,
)
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.images.formats.platforms import Platform
    from layerstore_core.images.image import Image
    from layerstore_core.store.handles import RWLayer
    from layerstore_core.store.nodes import RemovedLayer
    from layerstore_core.store.store import LayerStore


@click.group()
def rw() -> None:
    """Create, mount, compare, commit and remove writable layers.

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
@click.option("--parent", metavar="CHAIN", type=CHAIN, help="Parent: a layer or an image. [default: an empty tree]")
@click.option("--image", metavar="IMAGE", type=IMAGE, help="Parent image, instead of --parent.")
@platform_option
@click.option("--mount-label", metavar="LABEL", default="", help="SELinux label of the files.")
@click.option(
    "--storage-opt",
    metavar="KEY=VALUE",
    type=KEY_VALUE,
    multiple=True,
    help="Driver option for this layer, such as size=10G; may be repeated.",
)
@json_option
@click.pass_obj
def create(
    session: Session,
    *,
    name: str,
    parent: str | None,
    image: str | None,
    platform: Platform | None,
    mount_label: str,
    storage_opt: tuple[tuple[str, str], ...],
) -> None:
    """Create a writable layer, and print its name.

    \b
    Examples:
      layerstore rw create work --parent 3f1c9a2b
      layerstore rw create work --image debian:12
    """
    if parent is not None and image is not None:
        raise click.UsageError("a writable layer has one parent: give --parent or --image, not both")
    if platform is not None and parent is None and image is None:
        raise click.UsageError("--platform needs --image")
    options = {"mount_label": mount_label, "storage_opt": dict(storage_opt) or None}
    with session.open(create=True) as store, _create(store, name, parent, image, platform, **options) as rw:
        document = rw_document(store.context.db.read_mount(rw.name))
    session.answer(document, lambda: [output.printable(name)])


def _create(
    store: LayerStore, name: str, parent: str | None, image: str | None, platform: Platform | None, **options: Any
) -> RWLayer:
    """Create a writable layer; for one on an image, `commit` remembers which."""
    found: Image | ChainID | None = None
    if parent is not None:
        found = resolve_image_or_chain(store, parent, platform)
    elif image is not None:
        from layerstore_core.images import Images

        found = Images(store).get(image, platform=platform)
    if found is None or isinstance(found, ChainID):
        return store.create_rw_layer(name, found, **options)
    from layerstore_core.images import Images

    return Images(store).create_rw_layer(name, found, **options)


@rw.command("ls")
@json_option
@click.pass_obj
def list_rw(session: Session) -> None:
    """List the writable layers and their parents.

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
@click.option("--mount-label", metavar="LABEL", default="", help="SELinux label of the mount.")
@json_option
@click.pass_obj
def mount(session: Session, name: str, mount_label: str) -> None:
    """Mount a writable layer, and print the path of its tree.

    It stays mounted until 'layerstore rw umount' unmounts it. A driver may need a user namespace in order to mount;
    then an ordinary user mounts in 'layerstore unshare', and the mount ends with that.

    \b
    Example:
      cd "$(layerstore rw mount work)"
    """
    with session.open(lasting=True) as store, store.get_rw_layer(name) as rw:
        path = rw.mount(mount_label, keep=True)
    # Programs read the path: print it as it is, without escapes.
    session.answer({"name": name, "path": str(path)}, lambda: [str(path)])


@rw.command()
@click.argument("name", type=MOUNT_NAME)
@json_option
@click.pass_obj
def umount(session: Session, name: str) -> None:
    """Unmount a writable layer; its files are kept.

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
    """Print what a writable layer changes in its parent.

    Each line is A (added), C (changed) or D (deleted), and the path. Control characters in a path are written as
    \\n, \\t or \\x1b, a backslash as \\\\.

    \b
    Example:
      layerstore rw changes work
    """
    with session.open(reading=True, content=True) as store, store.get_rw_layer(name) as rw:
        pairs = [str(change).split(" ", 1) for change in rw.changes()]
    document = {"name": name, "changes": [{"kind": kind, "path": path} for kind, path in pairs]}
    session.answer(document, lambda: [f"{kind} {output.printable(path, path=True)}" for kind, path in pairs])


@rw.command()
@click.argument("name", type=MOUNT_NAME)
@json_option
@click.pass_obj
def commit(session: Session, name: str) -> None:
    """Register the changes as a layer, and print its chain ID.

    The new layer is a child of the writable layer's parent, and is pinned. The writable layer is not changed.

    \b
    Example:
      layerstore rw commit work
    """
    with session.open(adding=True) as store, store.get_rw_layer(name) as rw, rw.tar_stream() as stream:
        document = register_pinned(store, stream, parent_of(rw) or "", "Committing", allow_empty=True)
    session.answer(document, lambda: [document["chain_id"]])


@rw.command()
@click.argument("name", type=MOUNT_NAME)
@json_option
@click.pass_obj
def rm(session: Session, name: str) -> None:
    """Remove a writable layer and all files written in it.

    Prints the chain IDs of the layers that were removed with it, because nothing else referred to them. A writable
    layer that another process uses is not removed, and the exit code is 1.

    \b
    Example:
      layerstore rw rm work
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
