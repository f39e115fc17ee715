"""The tar of a layer of the store as the input of another layer."""

from __future__ import annotations

from contextlib import ExitStack
from typing import BinaryIO, Final

from layerstore_core.base.digests import ChainID
from layerstore_core.store.store import LayerStore
from layerstore_core.streams.positioned import PositionedFile

_CHUNK: Final = 1 << 20


class StoredTar(PositionedFile):
    """The tar of a layer of the store as a file that can seek.

    Args:
        store: the store.
        chain: the layer.
        size: the size of its tar in bytes.
    """

    def __init__(self, store: LayerStore, chain: ChainID, size: int) -> None:
        super().__init__(size, f"layer {chain}")
        self._stack = ExitStack()
        self._layer = self._stack.enter_context(store.get(chain))
        self._stream: BinaryIO | None = None
        self._at = 0

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

    def close(self) -> None:
        if not self.closed:
            self._close_stream()
            self._stack.close()
        super().close()

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
