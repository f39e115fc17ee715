"""`layerstore cat`: write the content of files of an image or a layer."""

from __future__ import annotations

import os
import shutil
from base64 import b64encode
from typing import Final

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import IMAGE_OR_REMOTE, json_option
from layerstore_core.cli.remote.option import Remote, opened_anywhere, remote_options
from layerstore_core.cli.session import Session

#: The most bytes of content that a JSON answer has.
_MAX_IN_JSON: Final = 64 << 20


@click.command()
@click.argument("image", metavar="IMAGE|CHAIN", type=IMAGE_OR_REMOTE)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@remote_options()
@json_option
@click.pass_obj
def cat(session: Session, image: str, paths: tuple[str, ...], *, remote: Remote | None) -> None:
    """Write the content of files of an image or a layer.

    The bytes go to standard output, one file after the other. Symbolic links are followed inside the image. Nothing
    is mounted, and only the layers that have the files are read. The content is compared with its checksum; only exit
    code 0 says that all of it was right.

    With --remote, IMAGE is the name of an image in a registry, which is not pulled. Of layers with a table of contents
    (eStargz, zstd:chunked) that and the files are fetched, and verified. Any other layer is read up to the file, and is
    not verified then: --verify does that.

    \b
    Examples:
      layerstore cat debian:12 /os
      layerstore cat 3f1c9a2b hosts --json
      layerstore cat --remote registry.example.com/app:1.0 /app
    """
    with opened_anywhere(session, image, remote, content=True, several=len(paths) > 1) as opened:
        from layerstore_core.cli.views import shown

        view = opened.view
        found = [view.find_file(os.fsencode(path)) for path in paths]  # an error comes before any content
        view.will_read(node for _, node in found)
        if not session.json:
            out = output.StandardOutput()
            for real, node in found:
                with view.open_node(node, real) as content:
                    shutil.copyfileobj(content, out, 1 << 20)
            out.flush()
            return
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
