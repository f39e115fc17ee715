"""Images and layers as a file system of fsspec: `layerstore://`, with the extra `layerstore-core[fsspec]`.

A URL is `layerstore://IMAGE:/PATH`, as in `layerstore cp`. The file system is for reading only.
"""

from __future__ import annotations

import errno
import io
import os
import threading
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

from fsspec.spec import AbstractFileSystem

from layerstore_core.errors import ImageDoesNotExist
from layerstore_core.tar.entry import EntryType

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from layerstore_core.view.nodes import Node
    from layerstore_core.view.tree import TreeView

_PROTOCOL: Final = "layerstore://"
_TYPES: Final = {EntryType.FILE: "file", EntryType.DIR: "directory", EntryType.SYMLINK: "link"}


class LayerStoreFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files of an image or a layer, read without a mount.

    Symbolic links are followed inside the image. It may be used from several threads, which take turns.

    Args:
        image: the name or ID of an image, or the chain ID of a layer.
        root: the directory of the store; `None`: as for the command line.
        driver: the storage driver; `None`: that of the store.
        archive: the path of an archive or a layout, which is read instead of a store.
        remote: whether the image is in a registry, which is read instead of a store, as by `RegistryImage`.
        **options: options of fsspec.

    Raises:
        ImageDoesNotExist, LayerDoesNotExist, StoreDoesNotExist: there is no such image or store.
    """

    protocol = "layerstore"
    root_marker = "/"

    def __init__(
        self,
        image: str = "",
        root: str | None = None,
        driver: str | None = None,
        archive: str | None = None,
        remote: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.image = image
        with ExitStack() as opened:
            self.view = _open_remote(opened, image) if remote else _open_view(opened, image, root, driver, archive)
            self._finalizer = weakref.finalize(self, opened.pop_all().close)
        self._lock = threading.RLock()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = os.fspath(path)
        if text.startswith(_PROTOCOL):
            text = _split(text)[1]
        return "/" + text.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        image, _ = _split(path)
        return {"image": image} if image else {}

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return the metadata of a file, with the keys of fsspec's local file system, and its extended attributes.

        The type of a symbolic link is that of the file that it leads to; in `ls`, that of a link to a directory is
        `link`, so that no walk follows it.

        Raises:
            FileNotFoundError: there is no such file.
        """
        path = self._strip_protocol(path)
        with self._lock:
            return self._document(path, self.view.find(os.fsencode(path), follow=False)[1])

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Return the files of a directory, or a file itself: with metadata as `info` returns it, or the paths only.

        Raises:
            FileNotFoundError: there is no such file.
        """
        path = self._strip_protocol(path)
        with self._lock:
            _, top = self.view.find(os.fsencode(path))
            files = [(path, top)]
            if top.is_directory:
                above = path.rstrip("/")
                files = [(f"{above}/{os.fsdecode(name)}", child) for name, child in sorted(top.children.items())]
            if not detail:
                return [one for one, _ in files]
            documents = [self._document(*file) for file in files]
            for document in documents:
                if document["islink"] and document["type"] == "directory":
                    document["type"] = "link"
            return documents

    def modified(self, path: str) -> Any:
        """Return the time of modification of a file."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def close(self) -> None:
        """Close the store or archive. The file system cannot be used any more."""
        self._finalizer()
        type(self)._cache.pop(self._fs_token, None)  # noqa: SLF001 - the base class's own

    def _document(self, path: str, node: Node) -> dict[str, Any]:
        link = node.type is EntryType.SYMLINK
        shown = node
        if link:
            try:
                shown = self.view.find(os.fsencode(path))[1]
            except OSError:
                pass  # it leads nowhere
        document: dict[str, Any] = {
            "name": path,
            "size": shown.size if shown.type is EntryType.FILE else 0,
            "type": _TYPES.get(shown.type, "other"),
            "created": node.mtime_ns / 1e9,
            "mtime": node.mtime_ns / 1e9,
            "islink": link,
            "mode": shown.st_mode,
            "uid": node.uid,
            "gid": node.gid,
            "nlink": len(self.view.names_of(node)) or 1,
            "xattrs": dict(node.xattrs),
        }
        if link:
            document["destination"] = node.linkname
        return document

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> BinaryIO:
        if mode != "rb":
            _refuse(path)
        with self._lock:
            raw = self.view.open(os.fsencode(self._strip_protocol(path)))
        locked: Any = io.BufferedReader(_LockedFile(raw, self._lock))
        return locked  # type: ignore[no-any-return]

    def mkdir(self, path: str, *_: Any, **__: Any) -> NoReturn:
        """Refuse: the file system is for reading only."""
        _refuse(path)

    makedirs = rmdir = cp_file = touch = _rm = rm_file = mkdir


class _LockedFile(io.RawIOBase):
    """A file that is read under a lock."""

    def __init__(self, file: BinaryIO, lock: threading.RLock) -> None:
        self._file = file
        self._lock = lock

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with self._lock:
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with self._lock:
            return self._file.readinto(buffer)  # type: ignore[attr-defined,no-any-return]

    def close(self) -> None:
        self._file.close()
        super().close()


def _split(url: str) -> tuple[str, str]:
    """Split a URL, with or without its protocol, into the image and the path; the image may be missing."""
    rest = url.removeprefix(_PROTOCOL)
    image, colon, path = rest.partition(":/")
    return (image, path) if colon else ("", rest)


def _open_view(opened: ExitStack, image: str, root: str | None, driver: str | None, archive: str | None) -> TreeView:
    if archive is not None:
        from layerstore_core.images.archive import ImageArchive

        return opened.enter_context(opened.enter_context(ImageArchive(archive)).view(image or None))
    if not image:
        raise ImageDoesNotExist("no image is named; give one in the URL, layerstore://IMAGE:/PATH, or as image=…")
    from layerstore_core.base.digests import ChainID
    from layerstore_core.images.api.images import Images
    from layerstore_core.store.store import LayerStore

    settings = {key: value for key, value in (("root", root), ("driver", driver)) if value is not None}
    store = opened.enter_context(LayerStore.open(create=False, **settings))  # type: ignore[arg-type]
    try:
        chain_id = ChainID(image)
    except ValueError:
        chain_id = None
    if chain_id is not None and store.has_layer(chain_id):
        return opened.enter_context(store.get(chain_id).view(close_handle=True))
    return opened.enter_context(Images(store).view(image))


def _open_remote(opened: ExitStack, image: str) -> TreeView:
    from layerstore_core.images.remote.image import RegistryImage

    return opened.enter_context(opened.enter_context(RegistryImage(image)).view())


def _refuse(path: str) -> NoReturn:
    raise OSError(errno.EROFS, f"{os.strerror(errno.EROFS)}: images are for reading only", path)
