"""Runs: plain entries of a tar that follow each other, which the kernels have read.

An entry is plain if a ustar or GNU header describes it, with at most the usual PAX records or long names before it, if
it is a file, a directory or a link, if its name needs no cleaning but for `./` before and a slash after it, if no
component of it is a whiteout, and if all of it is in the buffer. The kernel's run ends before any other entry. Its twin
is `TarScanner.next_entry`, which says what an entry is.
"""

from __future__ import annotations

from typing import Final, Protocol

from layerstore_core.tar.entry import NO_XATTRS, EntryType, TarEntry

#: What the kernels call the types.
FILE: Final = 0
SYMLINK: Final = 1
DIRECTORY: Final = 2
HARDLINK: Final = 3

_TYPES: Final = (
    (EntryType.FILE, b"0"),
    (EntryType.SYMLINK, b"2"),
    (EntryType.DIR, b"5"),
    (EntryType.HARDLINK, b"1"),
)


class Run(Protocol):
    """Run of plain entries, as the kernel `scan` returns it. It keeps the bytes that it was read from.

    Attributes:
        position: the index in the buffer where the last payload ends.
        padding: the number of bytes of padding after it.
        needed: if the buffer is too short for the next entry: how many bytes from `position` on are needed, at least.
        size: the sum of the lengths of all payloads and targets of symbolic links, in bytes.
        kinds: type, mode, user, group of the different kinds of entries, and how many entries are of each.
    """

    @property
    def position(self) -> int: ...
    @property
    def padding(self) -> int: ...
    @property
    def needed(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def kinds(self) -> list[tuple[int, int, int, int, int]]: ...
    def __len__(self) -> int: ...

    def entry(
        self, index: int, /
    ) -> tuple[int, bytes, int, int, int, int, int, int, bytes, dict[bytes, bytes] | None, int, int]:
        """Return the fields of an entry.

        Returns:
            Type, name, mode, user, group, size; time in seconds, and nanoseconds after them; target of a link; extended
            attributes, or `None`; offset of the first header in the tar; offset of the payload there.
        """

    def segment(self, index: int, /) -> bytes:
        """Return the bytes of the tar from the last payload to that of an entry: padding and headers."""

    def payload(self, index: int, /) -> memoryview:
        """Return the payload of an entry, which stays valid."""

    def raw(self) -> memoryview:
        """Return all bytes of the tar that the run was read from, which stay valid: segments and payloads."""

    def path(self, index: int, /) -> bytes:
        """Return the cleaned name of an entry."""


def entry_of(run: Run, index: int) -> TarEntry:
    """Return the entry that the scanner would have returned."""
    return entry_and_place(run, index)[0]


def entry_and_place(run: Run, index: int) -> tuple[TarEntry, int]:
    """Return the entry that the scanner would have returned, and the offset of its payload in the tar."""
    kind, name, mode, uid, gid, size, seconds, nanoseconds, link, xattrs, offset, place = run.entry(index)
    file_type, flag = _TYPES[kind]
    entry = TarEntry(
        name,
        file_type,
        mode,
        uid,
        gid,
        size,
        seconds * 1_000_000_000 + nanoseconds,
        link,
        xattrs=xattrs or NO_XATTRS,
        typeflag=flag,
        stored_size=size,
        offset=offset,
    )
    return entry, place
