"""`layerstore files`: list the files of an image or a layer."""

from __future__ import annotations

import os

import click

from layerstore_core.cli.parameters import IMAGE_OR_REMOTE, json_option
from layerstore_core.cli.remote.option import Remote, opened_anywhere, remote_options
from layerstore_core.cli.session import Session


@click.command()
@click.argument("image", metavar="IMAGE|CHAIN", type=IMAGE_OR_REMOTE)
@click.argument("path", default="/")
@click.option("-l", "--long", is_flag=True, help="Show mode, owner, size and time, and where links lead.")
@click.option("-R", "--recursive", is_flag=True, help="List everything below PATH, too.")
@remote_options()
@json_option
@click.pass_obj
def files(session: Session, image: str, path: str, *, long: bool, recursive: bool, remote: Remote | None) -> None:
    """List the files of an image or a layer.

    The files are those that a mount would show, with the metadata of the layers' tars. Nothing is mounted, no
    content is read, and no rights are needed. Times are in UTC. PATH is a directory or a file; without it, the root.

    With --remote, IMAGE is the name of an image in a registry, which is not pulled. Of layers with a table of contents
    (eStargz, zstd:chunked) only that is fetched; others are read to their end. All of it is verified, and nothing kept.

    \b
    Examples:
      layerstore files debian:12
      layerstore files debian:12 / -lR
      layerstore files --remote registry.example.com/app:1.0 -R
    """
    with opened_anywhere(session, image, remote, content=None) as opened:
        from layerstore_core.cli.views import lines_of, long_lines_of

        view = opened.view
        wanted = os.fsencode(path)
        real, node = view.find(wanted, follow=wanted.endswith(b"/") or recursive or not long)
        if recursive:
            found = [one for one in view.walk(real) if one[0] != real or not one[1].is_directory]
        elif node.is_directory:
            found = [(real + b"/" + name if real else name, child) for name, child in sorted(node.children.items())]
        else:
            found = [(real, node)]
        if session.json:
            document = {
                "id": opened.image_id,
                "chain_id": opened.chain_id,
                "files": [opened.document(*one) for one in found],
            }
            session.answer(document, lambda: ())
            return
        session.answer({}, lambda: long_lines_of(found) if long else lines_of(found))
