"""Read the files of usual records of layers, with as few operations as possible besides the system calls.

Unusual records are left to `LayerRecord.read`, which says what is wrong with them. This module is also the program of a
worker (`records/read_worker.py` starts it), and must not import more of the package than it has to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from layerstore_core.base.descriptors import open_fd, write_all

#: Diff ID, size in bytes, cache ID, the parent's chain ID (`""` for a base layer), the descriptor.
Fields = tuple[str, int, str, str, dict[str, Any] | None]

#: In bytes: more than a field or a descriptor usually takes.
_USUAL_FIELD: Final = 1024
_MAX_SIZE: Final = (1 << 63) - 1
# No link is followed, see `layerstore_core.base.inside`. Opening a FIFO must not wait for a writer.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: First the files that every record has: where one of them is missing, no more are read.
_FILES: Final = ("diff", "size", "cache-id", "parent", "os", "descriptor.json")
_NEEDED: Final = 3
_DIGEST: Final = "sha256:[0-9a-f]{64}"
_USUAL: Final = re.compile(
    rf"({_DIGEST})\0([0-9]{{1,19}})\0([A-Za-z0-9][A-Za-z0-9_.-]{{0,127}})\0((?:{_DIGEST})?)\0(?:linux)?", re.ASCII
)
#: Records that the worker sends at a time.
CHUNK: Final = 64
LENGTH: Final = 4
_HEX: Final = 64


def read_fields(layers: int, base: str) -> Fields | None:
    """Read a usual record.

    Args:
        layers: a descriptor of the directory that the record's directory is in.
        base: the name of the record's directory: the hex digits of the chain ID, which the fields have to yield.

    Returns:
        The fields; `None` where `LayerRecord.read` has to read the record, or to say what is wrong.
    """
    try:
        directory = open_fd(base, _DIRECTORY, dir_fd=layers)
    except OSError:
        return None
    try:
        return _read_fields(directory, base)
    finally:
        os.close(directory)


def _read_fields(directory: int, base: str) -> Fields | None:
    contents = []
    try:
        # One loop without calls, because this runs tens of thousands of times.
        for number, name in enumerate(_FILES):
            try:
                fd = open_fd(name, _READ, dir_fd=directory)
            except FileNotFoundError:
                if number < _NEEDED:
                    return None
                contents.append(b"")
                continue
            try:
                content = os.read(fd, _USUAL_FIELD)
            finally:
                os.close(fd)
            # An empty file is damage, and not the same as none.
            if not content or len(content) == _USUAL_FIELD:
                return None
            contents.append(content)
        described = contents.pop()
        # No field that matches contains a NUL, so this is the same as matching each field.
        match = _USUAL.fullmatch(b"\0".join(contents).decode("ascii"))
        if match is None:
            return None
        diff_id, digits, cache_id, parent = match.groups()
        made = sha256(f"{parent} {diff_id}".encode()).hexdigest() if parent else diff_id[len("sha256:") :]
        size = int(digits)
        if made != base or size > _MAX_SIZE:
            return None
        return diff_id, size, cache_id, parent, _descriptor(described) if described else None
    except (OSError, ValueError, RecursionError):
        return None


def _descriptor(content: bytes) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ValueError, RecursionError: the content is not one.
    """
    import json

    descriptor = json.loads(content.decode("ascii"))
    if not isinstance(descriptor, dict):
        raise ValueError("not an object")
    return descriptor


def _answer(layers: int, bases: Sequence[str], out: int) -> None:
    """Write the fields of records, the last chunk of them first, each chunk marshalled and after its length."""
    import marshal

    for end in range(len(bases), 0, -CHUNK):
        found = [read_fields(layers, base) for base in bases[max(0, end - CHUNK) : end]]
        data = marshal.dumps(found)
        data = len(data).to_bytes(LENGTH, "little") + data
        write_all(out, data)


def serve(layers: int, names: int, out: int) -> None:
    """Run the worker.

    Args:
        layers: a descriptor, as for `read_fields`.
        names: a descriptor of a file with the names of all records to be read, one after the other.
        out: a descriptor to which the answer is written.
    """
    text = os.pread(names, os.fstat(names).st_size, 0).decode("ascii")
    try:
        _answer(layers, [text[start : start + _HEX] for start in range(0, len(text), _HEX)], out)
    except BrokenPipeError:
        pass  # the parent process has all records that it needs, or has ended
