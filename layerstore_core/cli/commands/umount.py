"""`layerstore umount`: unmount images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import CHAIN, TARGET, json_option, resolve
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.store.store import LayerStore


@click.command()
@click.argument("target", metavar="IMAGE|CHAIN|DIR", type=TARGET)
@click.option(
    "-f", "--force", is_flag=True, help="Forget mounts in other mount namespaces; their layers are not kept any more."
)
@json_option
@click.pass_obj
def umount(session: Session, target: str, force: bool) -> None:
    """Unmount an image, and print the paths.

    This ends what 'layerstore mount' has mounted. DIR is a mount point. An image, or a chain of layers, is unmounted
    everywhere. If a program uses a mount, that is not unmounted, and the exit code is 1.

    \b
    Example:
      layerstore mount debian:12
      layerstore umount debian:12
    """

    def unmount() -> list[str]:
        with session.open() as store:
            return _unmount(store, target, force=force)

    def answer(paths: list[str]) -> None:
        session.answer({"paths": paths}, lambda: [output.printable(path, path=True) for path in paths])

    session.answer_for(unmount, answer)


def _unmount(store: LayerStore, target: str, *, force: bool) -> list[str]:
    from layerstore_core.store.mounts.read_only import end_mount, mounts_of

    point = os.path.realpath(target) if target else ""
    found = [one for one in mounts_of(store.context).all() if one.kept and one.target == point]
    for one in found:
        end_mount(store.context, one, force=force)
    if found:
        return [point]
    if os.path.isabs(target) or target.startswith("."):
        raise click.UsageError(f"no image of this store is mounted at {target}; 'layerstore mount' lists the mounts")
    with store.get(resolve(store, CHAIN.convert(target, None, None))) as layer:
        return layer.unmount(force=force)
