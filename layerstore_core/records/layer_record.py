"""The records of layers and writable layers, and how they are read from and written to directories.

A record is a directory with a small file per field, as Docker writes them (moby,
`daemon/internal/layer/filestore.go`). Reading is strict: a field that is not as it must be is a `BadRecord`
that names the file, so that damage is found before it spreads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from layerstore_core.base import inside
from layerstore_core.base.arguments import check_type
from layerstore_core.base.atomic import write_file
from layerstore_core.base.digests import ChainID, DiffID, chain_id
from layerstore_core.base.jsontext import json_problem
from layerstore_core.errors import BadRecord, InvalidMountName
from layerstore_core.records.fields import Fields, read_fields, read_fields_of_many

_D = TypeVar("_D", ChainID, DiffID)

#: In bytes: more than any field of a sound record takes; a descriptor may have annotations.
_MAX_FIELD: Final = 4096
_MAX_DESCRIPTOR: Final = 4 << 20
_MAX_NAME: Final = 255
_MAX_SIZE: Final = (1 << 63) - 1

CACHE_ID: Final = "cache-id"
MOUNT_ID: Final = "mount-id"
INIT_ID: Final = "init-id"

_DRIVER_ID: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
_MOUNT_ID: Final = r"[0-9a-f]{64}(-init)?"
_DECIMAL: Final = r"[0-9]{1,19}"

#: In the order in which Docker's encoder writes them; other keys follow.
_DESCRIPTOR_KEYS: Final = ("mediaType", "size", "digest", "urls", "annotations", "platform")
#: Go's JSON encoder escapes these inside strings, and they occur nowhere else.
_GO_ESCAPES: Final = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


class LayerRecord(NamedTuple):
    """The record of a read-only layer.

    Attributes:
        chain_id: the layer's name in the store.
        diff_id: the sha256 of its uncompressed tar.
        size: the size of its files, in bytes, without its parents.
        cache_id: the driver's ID for it.
        parent: the chain ID of the parent layer; `None` for a base layer.
        descriptor: the OCI descriptor that it was registered with, if there was one.
    """

    chain_id: ChainID
    diff_id: DiffID
    size: int
    cache_id: str
    parent: ChainID | None = None
    descriptor: Mapping[str, Any] | None = None

    def write(self, directory: Path) -> None:
        """Write the fields into a directory that has none of them yet but, perhaps, the cache ID."""
        write_file(directory / "size", str(self.size).encode())
        if self.parent is not None:
            write_file(directory / "parent", self.parent.encode())
        write_file(directory / "diff", self.diff_id.encode())
        if not inside.exists(directory / CACHE_ID):
            write_file(directory / CACHE_ID, self.cache_id.encode())
        if self.descriptor is not None:
            write_file(directory / "descriptor.json", _encode_descriptor(self.descriptor))

    @classmethod
    def read(cls, directory: Path, name: ChainID) -> LayerRecord:
        """Read a layer's record.

        Args:
            directory: the record's directory.
            name: the chain ID that the directory is named after, and that the fields have to yield.

        Raises:
            BadRecord: a field is missing, damaged, or does not belong to this chain ID.
            OSError: a file cannot be read.
        """
        system = _read_text(directory / "os", missing="linux")
        if system != "linux":
            raise BadRecord(directory / "os", f"the layer is of another operating system: {system!r}")
        parent = _read_parent(directory)
        diff_id = _digest(DiffID, directory / "diff", _read_text(directory / "diff"))
        size = _read_text(directory / "size")
        if not re.fullmatch(_DECIMAL, size) or int(size) > _MAX_SIZE:
            raise BadRecord(directory / "size", f"not a size in bytes: {size[:80]!r}")
        cache_id = _read_text(directory / CACHE_ID)
        if not re.fullmatch(_DRIVER_ID, cache_id):
            raise BadRecord(directory / CACHE_ID, f"not a driver's ID: {cache_id[:80]!r}")
        if chain_id(diff_id, parent) != name:
            raise BadRecord(directory, f"its parent and diff ID make another chain ID, {chain_id(diff_id, parent)}")
        return cls(name, diff_id, int(size), cache_id, parent, _read_descriptor(directory / "descriptor.json"))

    @classmethod
    def read_usual(cls, layers: int, name: ChainID) -> LayerRecord | None:
        """Read a layer's record quickly, if it is a usual one, for a store of many layers.

        Args:
            layers: a descriptor of the directory that the record's directory is in.
            name: the chain ID.

        Returns:
            The same as `read`; `None` where `read` has to read the record, or to say what is wrong.
        """
        fields = read_fields(layers, name.hex)
        return None if fields is None else cls._of_usual(name, fields)

    @classmethod
    def read_usual_ones(cls, layers: int, names: Sequence[ChainID]) -> dict[ChainID, LayerRecord]:
        """Return what `read_usual` returns for each of several layers, of which it returns one."""
        fields = read_fields_of_many(layers, [name.hex for name in names])
        return {name: cls._of_usual(name, one) for name, one in zip(names, fields, strict=True) if one is not None}

    @classmethod
    def _of_usual(cls, name: ChainID, fields: Fields) -> LayerRecord:
        """Return the record with the fields that `read_fields` has read."""
        diff_id, size, cache_id, parent, descriptor = fields
        return cls(
            name, DiffID.trusted(diff_id), size, cache_id, ChainID.trusted(parent) if parent else None, descriptor
        )


class MountRecord(NamedTuple):
    """The record of a writable layer.

    Attributes:
        name: its name, which the user chose.
        mount_id: the driver's ID for it.
        init_id: the driver's ID for its init layer, which is between it and its parent; `None` where there is none.
        parent: the chain ID of the parent layer; `None` where there is none.
    """

    name: str
    mount_id: str
    init_id: str | None = None
    parent: ChainID | None = None

    def write(self, directory: Path) -> None:
        """Write the fields into a directory that has none of them yet."""
        write_file(directory / MOUNT_ID, self.mount_id.encode())
        if self.init_id is not None:
            write_file(directory / INIT_ID, self.init_id.encode())
        if self.parent is not None:
            write_file(directory / "parent", self.parent.encode())

    @classmethod
    def read(cls, directory: Path, name: str) -> MountRecord:
        """Read a writable layer's record.

        Raises:
            BadRecord: a field is missing or damaged.
            OSError: a file cannot be read.
        """
        mount_id = _mount_id(directory / MOUNT_ID)
        init_id = _mount_id(directory / INIT_ID) if inside.exists(directory / INIT_ID) else None
        return cls(name, mount_id, init_id, _read_parent(directory))


def check_mount_name(name: str) -> None:
    """Refuse a name that cannot be a directory's.

    Raises:
        InvalidMountName: it is empty, `.`, `..`, over 255 bytes, or has a slash or a NUL in it.
        TypeError: it is no str.
    """
    check_type(name, str, "the name of a writable layer, a str")
    if not name:
        problem = "it is empty"
    elif name in (".", ".."):
        problem = "it means a directory itself"
    elif "/" in name:
        problem = "it has a slash in it"
    elif "\0" in name:
        problem = "it has a NUL in it"
    elif len(os.fsencode(name)) > _MAX_NAME:
        problem = f"it is longer than {_MAX_NAME} bytes"
    else:
        return
    raise InvalidMountName(f"{name[:80]!r} cannot name a writable layer: {problem}")


def driver_ids(directory: Path) -> tuple[str, ...]:
    """Return the driver's IDs in a layer's or a writable layer's record, which may be incomplete, children first."""
    found = (read_driver_id(directory / name) for name in (MOUNT_ID, INIT_ID, CACHE_ID))
    return tuple(driver_id for driver_id in found if driver_id is not None)


def read_driver_id(path: Path) -> str | None:
    """Return the driver's ID in a file of a record; `None` where it cannot be read."""
    try:
        text = _read_text(path)
    except (BadRecord, OSError):
        return None
    return text if re.fullmatch(_DRIVER_ID, text) else None


def read_digest(kind: type[_D], path: Path) -> _D | None:
    """Return the digest in a file of a record; `None` where it cannot be read."""
    try:
        return _digest(kind, path, _read_text(path))
    except (BadRecord, OSError):
        return None


def _read_text(path: Path, *, missing: str | None = None) -> str:
    content = _read(path, _MAX_FIELD, optional=missing is not None)
    if content is None:
        assert missing is not None
        return missing
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise BadRecord(path, f"not text: {content[:40]!r}") from None
    if not text:
        raise BadRecord(path, "the file is empty")
    return text


def _read(path: Path, limit: int, *, optional: bool) -> bytes | None:
    try:
        return inside.read(path, limit)
    except FileNotFoundError:
        if optional:
            return None
        raise BadRecord(path, "the file is missing") from None


def _read_descriptor(path: Path) -> Mapping[str, Any] | None:
    content = _read(path, _MAX_DESCRIPTOR, optional=True)
    if content is None:
        return None
    import json  # lazy: few layers have a descriptor

    try:
        descriptor = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadRecord(path, f"not JSON: {json_problem(error)}") from None
    if not isinstance(descriptor, dict):
        raise BadRecord(path, "not a JSON object")
    return descriptor


def _encode_descriptor(descriptor: Mapping[str, Any]) -> bytes:
    import json

    ordered = {key: descriptor[key] for key in _DESCRIPTOR_KEYS if key in descriptor}
    ordered.update(descriptor)
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate is not UTF-8. JSON can hold it as an escape, which is what this error handler writes.
    return text.translate(_GO_ESCAPES).encode("utf-8", "backslashreplace")


def _digest(kind: type[_D], path: Path, text: str) -> _D:
    try:
        return kind(text)
    except ValueError as error:
        raise BadRecord(path, str(error)) from None


def _read_parent(directory: Path) -> ChainID | None:
    path = directory / "parent"
    return _digest(ChainID, path, _read_text(path)) if inside.exists(path) else None


def _mount_id(path: Path) -> str:
    text = _read_text(path)
    if not re.fullmatch(_MOUNT_ID, text):
        raise BadRecord(path, f"not the ID of a writable layer: {text[:80]!r}")
    return text
