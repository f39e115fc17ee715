"""`layerstore mount`: mount an image read-only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import CHAIN, PathType, json_option, platform_option, resolve
from layerstore_core.cli.session import Session
from layerstore_core.errors import UserNamespaceError

if TYPE_CHECKING:
    from layerstore_core.images.formats.platforms import Platform


@click.command()
@click.argument("image", metavar="[IMAGE|CHAIN]", required=False, type=CHAIN)
@click.argument("directory", metavar="[DIR]", required=False, type=PathType(readable=False))
@platform_option
@json_option
@click.pass_obj
def mount(session: Session, image: str | None, directory: str | None, platform: Platform | None) -> None:
    """Mount an image read-only, and print the path of its tree.

    DIR is an existing directory. Without it, a directory below the store's root is the mount point. The image stays
    mounted until 'layerstore umount' unmounts it, and its layers are kept as long. Without arguments, list the mounts.

    Programs in the mount gain no rights of their owner, and devices cannot be opened. Mounting needs the rights of
    root; an ordinary user mounts in 'layerstore unshare'. 'files', 'cat' and 'cp' read without a mount.

    \b
    Examples:
      ls "$(layerstore mount debian:12)"
      layerstore mount
    """
    if image is None:
        if platform is not None:
            raise click.UsageError("--platform needs an IMAGE")
        _list(session)
        return
    from layerstore_core.rootless.rights import Missing, missing_to_mount

    if missing_to_mount() is not Missing.NOTHING:
        raise UserNamespaceError(
            "an ordinary user's mount would end with this command: mount in a shell that stays in a user namespace "
            "('layerstore unshare'), or read without a mount: 'layerstore files', 'cat', 'cp'"
        )
    with session.open() as store, store.get(resolve(store, image, platform)) as layer:
        path, chain_id = layer.mount(directory), str(layer.chain_id)
    session.answer({"chain_id": chain_id, "path": path}, lambda: [path])


def _list(session: Session) -> None:
    with session.open(reading=True) as store:
        from layerstore_core.store.mounts.read_only import mounts_of

        mounts = [one for one in mounts_of(store.context).all() if one.target]
    document = [{"chain_id": str(one.chain_id), "path": one.target} for one in mounts]

    def lines() -> list[str]:
        rows = [("CHAIN ID", "PATH")] if mounts else []
        rows += [(one.chain_id.hex[:12], output.printable(os.fspath(one.target), path=True)) for one in mounts]
        return output.columns(rows)

    session.answer({"mounts": document}, lines)
