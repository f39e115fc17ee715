"""Layers as they came compressed: `<root>/layerstore/blobs/<driver>/<diff ID hex>/<digest hex>`.

A store keeps layers unpacked, and most compressors cannot be repeated. The setting `keep_blobs` has the compressed
blobs kept, too. A blob is kept for as long as its layer. It is only needed to save the layer with the digest that it
came with: if it is lost or damaged, the layer is saved in another way.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import PARTIAL, replacing
from layerstore_core.base.descriptors import Descriptor, write_all
from layerstore_core.base.digests import DiffID
from layerstore_core.base.limits import compressed_limit
from layerstore_core.errors import BadRecord, InvalidLayer
from layerstore_core.images.keep.recipe import Recipe
from layerstore_core.records.own_state import state_directory
from layerstore_core.streams.compression import MAGIC_SIZE, decompress, detect

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CHUNK: Final = 1 << 20


class KeptBlobs:
    """The compressed blobs of one driver's layers.

    Reading writes nothing. Changes are made under the lock on the image records (`StoreContext.changing_images`).

    Args:
        root: the store's directory.
        driver: the driver's name on disk.
        durable: whether a blob is on disk when `put` returns.

    Attributes:
        path: `<root>/layerstore/blobs/<driver>`.
    """

    def __init__(self, root: Path, driver: str, *, durable: bool = True) -> None:
        self.path = state_directory(root, "blobs", driver)
        self._durable = durable

    def digests(self, diff_id: DiffID) -> list[str]:
        """Return the digests of a layer's blobs, sorted."""
        return [f"sha256:{name}" for name in inside.names(self.path / diff_id.hex) if _HEX.fullmatch(name)]

    def has(self, diff_id: DiffID, digest: str) -> bool:
        """Return whether a blob of a layer is kept, sound or not."""
        return digest.startswith("sha256:") and inside.exists(self.path_of(diff_id, digest))

    def size(self, diff_id: DiffID, digest: str) -> int:
        """Return the size of a blob in bytes.

        Raises:
            OSError: it cannot be read.
        """
        return inside.status(self.path_of(diff_id, digest)).st_size

    def read(self, diff_id: DiffID, digest: str) -> Iterator[bytes]:
        """Yield the bytes of a blob, and compare their digest at the end.

        Raises:
            BadRecord: the blob is damaged.
            OSError: it cannot be read.
        """
        path = self.path_of(diff_id, digest)
        found = hashlib.sha256()
        with inside.open_file(path) as fd:
            while chunk := os.read(fd, _CHUNK):
                found.update(chunk)
                yield chunk
        if f"sha256:{found.hexdigest()}" != digest:
            raise BadRecord(path, "the blob has changed: its digest is not its name")

    def put(self, diff_id: DiffID, digest: str, file: BinaryIO) -> None:
        """Add a blob, which the caller has verified.

        Args:
            diff_id: its layer.
            digest: its digest.
            file: an unnamed file with its content, on the same file system, as `spool` makes it.

        Raises:
            OSError: it cannot be added.
        """
        path = self.path_of(diff_id, digest)
        with replacing(path, durable=self._durable) as partial:
            _give_name(file, partial)
            if self._durable:
                inside.flush(partial)

    def adopt(self, diff_id: DiffID, digest: str, move: Callable[[Path], object]) -> None:
        """Add a blob, which the caller has verified, without copying it.

        Args:
            diff_id: its layer.
            digest: its digest.
            move: moves a file with its content, and nothing else, to the path that it gets.

        Raises:
            OSError: it cannot be added.
            Exception: what `move` raises.
        """
        with replacing(self.path_of(diff_id, digest), durable=self._durable) as partial:
            move(partial)
            if self._durable:
                inside.flush(partial)

    def unused(self, wanted: Collection[DiffID]) -> list[Path]:
        """Return the blobs of all layers but these, and files that processes have left which were interrupted."""
        keep = {diff_id.hex for diff_id in wanted}
        found = []
        for name in inside.directory_names(self.path):
            if not _HEX.fullmatch(name):
                continue
            if name not in keep:
                found.append(self.path / name)
            else:
                found += [self.path / name / one for one in inside.names(self.path / name) if one.startswith(PARTIAL)]
        return found

    def all(self) -> Iterator[tuple[DiffID, str]]:
        """Yield all blobs: the layer, and the digest."""
        for name in inside.directory_names(self.path):
            if _HEX.fullmatch(name):
                diff_id = DiffID.from_hex(name)
                for digest in self.digests(diff_id):
                    yield diff_id, digest

    def sizes(self) -> dict[DiffID, list[int]]:
        """Return the sizes of all blobs in bytes, by layer; none of those that cannot be read."""
        found: dict[DiffID, list[int]] = {}
        try:
            names = inside.directory_names(self.path)
        except (BadRecord, OSError):
            return found
        for name in filter(_HEX.fullmatch, names):
            with suppress(BadRecord, OSError), inside.Directory(self.path / name) as blobs:
                found[DiffID.from_hex(name)] = [
                    blobs.status(blob).st_size for blob in filter(_HEX.fullmatch, blobs.names())
                ]
        return found

    def path_of(self, diff_id: DiffID, digest: str) -> Path:
        """Return the path of a blob, whether it exists or not.

        Raises:
            ValueError: the digest is not a sha256.
        """
        digits = digest.removeprefix("sha256:")
        if not _HEX.fullmatch(digits):
            raise ValueError(f"{digest!r} is not a sha256 digest")
        return self.path / diff_id.hex / digits


def spool(blob: BinaryIO, digest: str, diff_id: DiffID, directory: Path, tar_size: int) -> BinaryIO | None:
    """Copy a compressed layer to an unnamed file, and verify it: its digest, and that it contains the layer's tar.

    Args:
        blob: the blob, at its start.
        digest: its digest, a sha256.
        diff_id: the digest of the tar.
        directory: the directory for the file.
        tar_size: the size of the tar. A blob that is much larger is not kept: a compressed stream may have any number
            of empty parts.

    Returns:
        The file; `None` where the blob is not what it should be, is larger, or is not compressed.

    Raises:
        OSError: it cannot be read or written.
    """
    limit = compressed_limit(tar_size)
    file = inside.temporary_file(directory)
    copied, first, whole = 0, b"", hashlib.sha256()

    def read_chunk() -> bytes:
        nonlocal copied, first
        chunk, first = first or blob.read(_CHUNK), b""
        copied += len(chunk)
        if copied > limit:
            raise InvalidLayer(f"the blob has more than {limit} bytes")
        whole.update(chunk)
        write_all(file.fileno(), chunk)
        return chunk

    try:
        first = blob.read(_CHUNK)
        while len(first) < MAGIC_SIZE and (more := blob.read(_CHUNK)):
            first += more
        if (compression := detect(first)) is None:
            file.close()
            return None
        tar, left = hashlib.sha256(), tar_size
        read_plain = decompress(read_chunk, compression)
        while left >= 0 and (plain := read_plain()):
            tar.update(plain)
            left -= len(plain)
        if not left and f"sha256:{whole.hexdigest()}" == digest and f"sha256:{tar.hexdigest()}" == diff_id:
            return file
    except InvalidLayer:
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def is_proved(recipe: Recipe, blob: BinaryIO) -> bool:
    """Return whether a recipe makes a whole blob again.

    Args:
        recipe: the recipe.
        blob: the blob, at its start, whose digest has been verified.

    Raises:
        OSError: it cannot be read.
    """
    read_plain = decompress(lambda: blob.read(_CHUNK), "gzip")
    made = hashlib.sha256()
    try:
        for chunk in recipe.encode(iter(read_plain, b"")):
            made.update(chunk)
    except InvalidLayer:
        return False
    return f"sha256:{made.hexdigest()}" == recipe.digest


def _give_name(file: BinaryIO, path: Path) -> None:
    """Give an unnamed file a name; where the file system cannot do that, copy it."""
    os.fchmod(file.fileno(), 0o600)
    with inside.parent(path) as (parent, name):
        try:
            os.link(f"/proc/self/fd/{file.fileno()}", name, dst_dir_fd=parent, follow_symlinks=True)
            return
        except OSError:
            pass
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with Descriptor(os.open, name, flags, 0o600, dir_fd=parent) as target:
            position = 0
            while chunk := os.pread(file.fileno(), _CHUNK, position):
                position += len(chunk)
                write_all(target, chunk)
