"""Read the files of usual records of layers, with as few operations as possible besides the system calls.

Unusual records are left to `LayerRecord.read`, which says what is wrong with them.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from layerstore_core.base.descriptors import open_fd
from layerstore_core.base.kernels import engine

#: Diff ID, size in bytes, cache ID, the parent's chain ID (`""` for a base layer), the descriptor.
Fields = tuple[str, int, str, str, dict[str, Any] | None]

#: In bytes: more than a field or a descriptor usually takes.
_USUAL_FIELD: Final = 1024
_MAX_SIZE: Final = (1 << 63) - 1
# No link is followed, see `layerstore_core.base.inside`. Opening a FIFO must not wait for a writer.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: First the files that every record has: where one of them is missing, no more are read.
_FILES: Final = (b"diff", b"size", b"cache-id", b"parent", b"os", b"descriptor.json")
_NEEDED: Final = 3
_DIGEST: Final = "sha256:[0-9a-f]{64}"
#: All but the descriptor. No field that matches contains a NUL, so this is the same as matching each field.
_USUAL: Final = rf"({_DIGEST})\0([0-9]{{1,19}})\0([A-Za-z0-9][A-Za-z0-9_.-]{{0,127}})\0((?:{_DIGEST})?)\0(?:linux)?\0"
#: How many records the kernel reads in a call.
_CHUNK: Final = 128
#: Of fewer records, threads would read next to none before all are read.
_MANY: Final = 2 * _CHUNK


def read_fields(layers: int, base: str) -> Fields | None:
    """Read a usual record.

    Args:
        layers: a descriptor of the directory that the record's directory is in.
        base: the name of the record's directory: the hex digits of the chain ID, which the fields have to yield.

    Returns:
        The fields; `None` where `LayerRecord.read` has to read the record, or to say what is wrong.
    """
    return _fields_of(base, _read_files(layers, base))


def read_fields_of_many(layers: int, bases: Sequence[str]) -> Iterator[Fields | None]:
    """Yield what `read_fields` returns for each of several records."""
    kernels = engine().kernels
    if kernels is None or len(bases) < _MANY:
        for base in bases:
            yield read_fields(layers, base)
        return
    from layerstore_core.base.threads import Task, cores, submit, wait_for_all  # lazy: few stores have so many

    names = tuple(base.encode() for base in bases)
    chunks = range(0, len(names), _CHUNK)
    running: deque[Task[list[bytes | None]]] = deque()
    try:
        begun = 0
        for start in chunks:
            # One more than can be at work at once: it is waiting when a thread is done.
            while begun < len(chunks) and len(running) <= cores():
                part = names[chunks[begun] : chunks[begun] + _CHUNK]
                running.append(submit(partial(kernels.read_fields, layers, part, _FILES, _NEEDED, _USUAL_FIELD)))
                begun += 1
            found = running[0].result()
            running.popleft()
            yield from map(_fields_of, bases[start : start + _CHUNK], found)
    finally:
        wait_for_all(running)  # they use the descriptor


def _read_files(layers: int, base: str) -> bytes | None:
    """Read the files of a record as the kernel does: see `read_fields` of the kernels."""
    try:
        directory = open_fd(base, _DIRECTORY, dir_fd=layers)
    except OSError:
        return None
    contents = []
    try:
        for number, name in enumerate(_FILES):
            content = _read_file(directory, name, needed=number < _NEEDED)
            if content is None:
                return None
            contents.append(content)
    except OSError:
        return None
    finally:
        os.close(directory)
    return b"\0".join((*contents, b""))


def _read_file(directory: int, name: bytes, *, needed: bool) -> bytes | None:
    """Return the content of a file, empty if it may be missing and is; `None` if it is unusual."""
    try:
        fd = open_fd(name, _READ, dir_fd=directory)
    except FileNotFoundError:
        return None if needed else b""
    try:
        content = os.read(fd, _USUAL_FIELD)
    finally:
        os.close(fd)
    # An empty file is damage, and not the same as none.
    return content if 0 < len(content) < _USUAL_FIELD else None


def _fields_of(base: str, content: bytes | None) -> Fields | None:
    """Return the fields of a record with this content; `None` if it is unusual."""
    try:
        text = content.decode("ascii") if content is not None else ""
        match = re.match(_USUAL, text)
        if match is None:
            return None
        diff_id, digits, cache_id, parent = match.groups()
        made = diff_id[len("sha256:") :]
        if parent:
            import hashlib  # lazy: see `base.digests`

            made = hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest()
        size = int(digits)
        if made != base or size > _MAX_SIZE:
            return None
        described = text[match.end() : -1]
        return diff_id, size, cache_id, parent, _descriptor(described) if described else None
    except (ValueError, RecursionError):
        return None


def _descriptor(content: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ValueError, RecursionError: the content is not one.
    """
    import json

    descriptor = json.loads(content)
    if not isinstance(descriptor, dict):
        raise ValueError("not an object")
    return descriptor
