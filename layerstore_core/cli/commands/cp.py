"""`layerstore cp`: copy files of an image or a layer to the host."""

from __future__ import annotations

import os

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import IMAGE_PATH, PathType, json_option
from layerstore_core.cli.session import Session


@click.command()
@click.argument("source", metavar="IMAGE:PATH", type=IMAGE_PATH)
@click.argument("target", metavar="DEST", type=PathType(readable=False, allow_dash=True))
@click.option("-L", "--follow-link", is_flag=True, help="If PATH is a symbolic link, copy what it leads to.")
@json_option
@click.pass_obj
def cp(session: Session, source: tuple[str, str], target: str, follow_link: bool) -> None:
    """Copy a file or directory of an image or a layer to the host.

    Modes, times, links and attributes are kept; owners are kept by root. PATH begins with a slash. If DEST is a
    directory, the copy is made in it; "PATH/." copies what is in a directory. The copy appears whole or not at all.
    With '-' as DEST, a tar goes to standard output.

    \b
    Examples:
      layerstore cp debian:12:/os .
      layerstore cp debian:12:/. rootfs
      layerstore cp debian:12:/os - | tar -t
    """
    image, path = source
    if target == "-":
        output.check_binary(session.json)
    with session.open(reading=True, content=True) as store:
        from layerstore_core.cli.views import opened_view, shown
        from layerstore_core.view.copy_out import copy_to_host, tar_of

        with opened_view(store, image) as opened:
            wanted = os.fsencode(path)
            if target == "-":
                out = output.StandardOutput()
                for chunk in tar_of(opened.view, wanted, follow=follow_link):
                    out.write(chunk)
                out.flush()
                return
            copied = copy_to_host(opened.view, wanted, target, follow=follow_link)
            document = {
                "id": opened.image_id,
                "chain_id": opened.chain_id,
                "path": shown(wanted.strip(b"/")),
                "file": copied.target,
                "files": copied.files,
                "bytes": copied.bytes,
            }
    session.answer(document, lambda: ())
