"""`layerstore cat`: write the content of files of an image or a layer."""

from __future__ import annotations

import os
import shutil
from base64 import b64encode
from typing import Final

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import CHAIN, json_option
from layerstore_core.cli.session import Session

#: The most bytes of content that a JSON answer has.
_MAX_IN_JSON: Final = 64 << 20


@click.command()
@click.argument("image", metavar="IMAGE|CHAIN", type=CHAIN)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@json_option
@click.pass_obj
def cat(session: Session, image: str, paths: tuple[str, ...]) -> None:
    """Write the content of files of an image or a layer.

    The bytes go to standard output, one file after the other. Symbolic links are followed inside the image. Nothing
    is mounted, and only the layers that have the files are read. The content is compared with its checksum; only exit
    code 0 says that all of it was right.

    \b
    Examples:
      layerstore cat debian:12 /os
      layerstore cat 3f1c9a2b hosts --json
    """
    with session.open(reading=True, content=True) as store:
        from layerstore_core.cli.views import opened_view, shown

        with opened_view(store, image) as opened:
            view = opened.view
            if not session.json:
                contents = [view.open(os.fsencode(path)) for path in paths]  # an error comes before any content
                out = output.StandardOutput()
                for content in contents:
                    shutil.copyfileobj(content, out, 1 << 20)
                out.flush()
                return
            found = []
            for path in paths:
                real, node = view.find(os.fsencode(path))
                view.open_node(node, os.fsencode(path)).close()  # an error comes before any content
                found.append((real, node))
            size = sum(node.size for _, node in found)
            if size > _MAX_IN_JSON:
                raise click.UsageError(
                    f"--json: the content is {output.human_size(size)}, and a JSON answer has "
                    f"{output.human_size(_MAX_IN_JSON)} at most; write it without --json"
                )
            documents = [
                {
                    "path": shown(real),
                    "size": node.size,
                    "content": b64encode(b"".join(view.chunks(node))).decode(),
                }
                for real, node in found
            ]
    session.answer({"files": documents}, lambda: ())
