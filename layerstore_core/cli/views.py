"""Views of images and layers for commands, and their files as lines and as JSON objects."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from layerstore_core.base.digests import ChainID, ImageID
from layerstore_core.cli.parameters import resolve_image_or_chain
from layerstore_core.text import printable

if TYPE_CHECKING:
    from layerstore_core.images.image import Image
    from layerstore_core.store.store import LayerStore
    from layerstore_core.view.nodes import Node
    from layerstore_core.view.tree import TreeView

#: The letters of `ls -l` for types.
_LETTERS: Final = {"file": "-", "directory": "d", "symlink": "l", "char": "c", "block": "b", "fifo": "p"}


@dataclass(frozen=True)
class OpenView:
    """A view that a command has opened.

    Attributes:
        view: the view.
        chain_ids: the chain IDs of its layers, the base first.
        image: the image, unless a layer was given by its chain ID, or the image is in a registry.
        remote_id: the ID of an image in a registry.
    """

    view: TreeView
    chain_ids: Sequence[ChainID]
    image: Image | None
    remote_id: ImageID | None = None

    @property
    def image_id(self) -> str | None:
        """The image's ID as a JSON value."""
        found = self.remote_id if self.image is None else self.image.image_id
        return None if found is None else str(found)

    @property
    def chain_id(self) -> str | None:
        """The topmost layer's chain ID as a JSON value."""
        return str(self.chain_ids[-1]) if self.chain_ids else None

    def document(self, path: bytes, node: Node) -> dict[str, Any]:
        """Return a file as a JSON object."""
        names = self.view.names_of(node)
        return {
            "path": shown(path),
            **metadata_document(node),
            "hard_links": [shown(name) for name in names] if len(names) > 1 else [],
            "chain_id": str(self.chain_ids[node.layer]) if node.layer >= 0 else None,
        }


def metadata_document(node: Node) -> dict[str, Any]:
    """Return the metadata of a file as a JSON object."""
    kind = node.type.word
    return {
        "type": kind,
        "mode": f"{node.mode:04o}",
        "uid": node.uid,
        "gid": node.gid,
        "size": node.size,
        "mtime_ns": node.mtime_ns,
        "target": os.fsdecode(node.linkname) if kind == "symlink" else None,
        "device": [node.devmajor, node.devminor] if kind in ("char", "block") else None,
        "xattrs": {os.fsdecode(name): b64encode(value).decode() for name, value in node.xattrs.items()},
    }


@contextmanager
def opened_view(store: LayerStore, word: str) -> Iterator[OpenView]:
    """Open a view of the image or layer that a value of `ChainType` means, for the length of a `with` block.

    An error of a path in the view gets a note of where the path is.

    Raises:
        LayerDoesNotExist, ImageDoesNotExist: there is none.
        click.UsageError: the word may mean several objects.
    """
    found = resolve_image_or_chain(store, word)
    if isinstance(found, ChainID):
        layer = store.get(found)
        chain_ids = [one.chain_id for one in layer.chain()]
        opened = OpenView(layer.view(close_handle=True), chain_ids, None)
    else:
        from layerstore_core.images.api.images import Images

        opened = OpenView(Images(store).view(found), found.chain_ids, found)
    with opened.view:
        try:
            yield opened
        except OSError as error:
            from layerstore_core.view.tree import is_of_view

            if is_of_view(error):
                error.add_note(f"in {word}; 'layerstore files {word} -R' lists all files there")
            raise


def shown(path: bytes) -> str:
    """Return the path of a file with a slash at its beginning."""
    return "/" + os.fsdecode(path)


def lines_of(files: Sequence[tuple[bytes, Node]]) -> list[str]:
    """Return the paths of files as lines that can mislead no terminal."""
    paths = [shown(path) for path, _ in files]
    text = "".join(paths)
    if text.isascii() and text.isprintable() and "\\" not in text:
        return paths  # the usual case: one look at all of them takes less time than one at each
    return [printable(path, path=True) for path in paths]


def long_lines_of(files: Sequence[tuple[bytes, Node]]) -> list[str]:
    """Return lines with the metadata of files, as `ls -l` has them: mode, owner, size or device, time, path."""
    from layerstore_core.cli.output import columns

    return columns(
        [
            (
                _LETTERS[node.type.word] + _permissions(node.mode),
                f"{node.uid}:{node.gid}",
                f"{node.devmajor},{node.devminor}" if node.type.name in ("CHAR", "BLOCK") else str(node.size),
                time_text(node.mtime_ns),
                name + (f" -> {printable(os.fsdecode(node.linkname), path=True)}" if node.linkname else ""),
            )
            for name, (_, node) in zip(lines_of(files), files, strict=True)
        ]
    )


def time_text(time_ns: int) -> str:
    """Return a time in UTC, to the second; a time that no calendar has as a number of seconds."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"@{time_ns // 1_000_000_000}"


def _permissions(mode: int) -> str:
    import stat

    return stat.filemode(mode)[1:]
