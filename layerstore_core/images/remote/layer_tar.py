"""The tar of a layer of the store as the input of another layer."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, Final

from layerstore_core.base.digests import ChainID
from layerstore_core.store.store import LayerStore

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK: Final = 1 << 20


class LayerTar(io.RawIOBase):
    """The tar of a layer of the store as a file that can seek.

    Args:
        store: the store.
        chain: the layer.
    """

    def __init__(self, store: LayerStore, chain: ChainID) -> None:
        self._stack = ExitStack()
        self._layer = self._stack.enter_context(store.get(chain))
        self._stream: BinaryIO | None = None
        self._at = 0
        self._position = 0
        self.name = f"layer {chain}"

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._layer.tar_size()}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return self.readall()
        if self._stream is None or self._at > self._position:
            self._close_stream()
            self._stream, self._at = self._layer.tar_stream(), 0
        while self._at < self._position:
            passed = self._stream.read(min(self._position - self._at, _CHUNK))
            if not passed:
                return b""
            self._at += len(passed)
        data = self._stream.read(min(size, _CHUNK))
        self._position = self._at = self._at + len(data)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._close_stream()
            self._stack.close()
        super().close()

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
