"""The kernels, as Python sees them."""

from collections.abc import Iterable
from typing import Self, final

from _typeshed import ReadableBuffer, WriteableBuffer

#: The version of the kernels' interface.
INTERFACE: int

#: What a kernel notes: a kind, a path below the directory that it began in, and more.
Notes = list[tuple[int, bytes, bytes]]

def compare_directory(
    upper: int,
    lower: int,
    names: int,
    stop: ReadableBuffer,
    path: bytes,
    stamps: ReadableBuffer,
    device: int,
    untouched: bool,
    /,
) -> tuple[Notes, int]:
    """Compare what is in two open directories, and in the directories below; see `src/compare.h`.

    Args:
        upper: a descriptor.
        lower: a descriptor.
        names: after so many names, no further directory is entered.
        stop: its first byte is set to end this soon, from another thread. The result is then of no use.
        path: the path of the two directories, relative to the roots. The paths of the notes begin with it.
        stamps: the stamps of the upper tree, as `sort_stamps` returns them; empty if there are none.
        device: the device of the upper tree's root.
        untouched: whether the upper directory has its stamp, so that no name in it was added or removed.

    Returns:
        The notes, and how many names are left of those that were allowed.

    Raises:
        OSError: a directory cannot be read; the error names it, relative to the first.
    """

def compare_upper(upper: int, stack: tuple[bytes, ...], /) -> tuple[Notes, int]:
    """Compare what is in a directory of an overlay's upper layer with the lower directories; see `src/upper.h`.

    Args:
        upper: a descriptor.
        stack: the paths of the lower directories, the uppermost first.

    Raises:
        OSError: a directory cannot be read.
    """

def copy_directory(
    source: int, target: int, masked: int, uid: int, gid: int, ways: int, names: int, stop: ReadableBuffer, /
) -> tuple[tuple[Notes, int], int]:
    """Copy what is in an open directory, and in the directories below, into an empty one; see `src/copy.h`.

    Args:
        source: a descriptor.
        target: a descriptor.
        masked: the bits of a mode that have to be set by another call than the one that makes a file.
        uid: the owner of new files.
        gid: likewise.
        ways: how content may be copied.
        names: as for `compare_directory`.
        stop: likewise.

    Returns:
        The result as of `compare_directory`, and the ways that the file system supports, as far as is known now.

    Raises:
        OSError: as by `compare_directory`.
    """

def crc64(data: ReadableBuffer, checksum: int = 0, /) -> int:
    """Return the CRC-64/GO-ISO of a buffer, continued from an earlier result (0: of none)."""

def sort_stamps(stamps: bytes, /) -> bytes:
    """Return stamps sorted, as comparisons need them; without a part of one at the end."""

def take_stamps(
    directory: int, names: int, stop: ReadableBuffer, path: bytes, before_ns: int, /
) -> tuple[tuple[Notes, int], bytes | None]:
    """Take the stamps of an open directory and of what is below it; see `src/stamps.h`.

    Args:
        directory: a descriptor.
        names: as for `compare_directory`.
        stop: likewise.
        path: the path of the directory, relative to the root. The paths of the notes begin with it.
        before_ns: files that were changed at this time or later have no stamp.

    Returns:
        The result as of `compare_directory`, and the stamps; `None` for none.

    Raises:
        OSError: something cannot be read.
    """

def scan(buffer: bytes, position: int, padding: int, offset: int, max_entries: int, max_bytes: int, /) -> Run:
    """Scan the plain entries of a piece of a tar, up to the first that is not plain or not wholly in the buffer.

    Args:
        buffer: the piece.
        position: the index in it where the payload of the entry before ends.
        padding: the number of bytes of padding after that.
        offset: the place of the piece in the tar.
        max_entries: the most entries of the run.
        max_bytes: no entry begins more than so many bytes after `position`.
    """

def headers(
    pieces: Pieces, first: int, padding: int, offset: int, /
) -> tuple[list[tuple[bytes, tuple[int, int, int], int, int, bytes, int, int]], int, int, int]:
    """Return the plain files and directories of decoded tar-split lines.

    Args:
        pieces: the lines.
        first: the piece to begin with.
        padding: the number of bytes of padding that its segment begins with.
        offset: where the piece begins in the tar.

    Returns:
        The files, as `layerstore_core.view.layers.PlainFile` has them, up to the first piece that is something else;
        the number of that piece; and its `padding` and `offset`.
    """

def keep_memory() -> None:
    """Let this process keep the memory that it frees, for chunks of a tar; for programs that end soon."""

def lines(run: Run, position: int, /) -> bytearray:
    """Return the tar-split lines of a run, two for each entry; the first has the given position."""

@final
class Run:
    """Plain entries of a tar that follow each other: see `layerstore_core.tar.run.Run`."""

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
    ) -> tuple[int, bytes, int, int, int, int, int, int, bytes, dict[bytes, bytes] | None, int, int]: ...
    def segment(self, index: int, /) -> bytes: ...
    def payload(self, index: int, /) -> memoryview: ...
    def raw(self) -> memoryview: ...
    def path(self, index: int, /) -> bytes: ...

@final
class Directories:
    """Open directories that jobs make entries in: those that jobs have made, and lent ones."""

    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def lend(self, path: bytes, directory: int, hows: ReadableBuffer, /) -> None:
        """Lend a directory, until `end_loans`.

        Args:
            path: its path, relative to the root, with links resolved; the root's is empty.
            directory: its descriptor. It must stay open until the jobs with entries in it are done.
            hows: how the kinds of the run are made in it, as for `Job.add`.
        """

    def end_loans(self) -> None: ...
    def end(self) -> None:
        """Close the directories that were made, with their times. All jobs must be done.

        Raises:
            OSError: with its path, if the times of one cannot be set. The others have theirs.
        """

    def close(self) -> None:
        """Close the directories that were made, and set no times."""

    def times_of(self, path: bytes, /) -> tuple[int, int] | None:
        """Return the time that a directory will get, if it was made here and is open: seconds, and nanoseconds."""

@final
class Job:
    """Entries of a run, to make in the order of the tar.

    Args:
        run: the run.
        touched: what the layer has written, a set of names. What is added to the job is added to it.
        directories: those that entries go into.

    Entries are added in the order of the run, with how to make them: for each of the run's kinds a mode, a user, a
    group (-1: as it is) and flags, as `struct ls_how` in `make.h`.
    """

    def __init__(self, run: Run, touched: Names, directories: Directories, /) -> None: ...
    def __len__(self) -> int:
        """Return how many operations were added."""

    def add(self, first: int, hows: ReadableBuffer, /) -> tuple[int, int]:
        """Make directories, and add files and links, up to the first entry that needs something else.

        An entry is not plain here if its kind is not, if it has attributes that need care, if it cannot be made, or if
        its path is in `touched`: as it is, or with a slash or a NUL at the end.

        Args:
            first: the entry to begin with.
            hows: how the kinds are made in directories that jobs have made.

        Returns:
            That entry, or the length of the run; and the reason, as `enum ls_reason` in `plan.h`.
        """

    def run(self) -> int:
        """Make what was added and was not made yet, without the interpreter's lock.

        Returns:
            -1 if all is done; otherwise the first entry that is left to the caller, of which nothing is left. The next
            call goes on after it.

        Raises:
            OSError: with its path, if the times of a directory cannot be set. The next call goes on after it.
        """

    def times_of(self, path: bytes, /) -> tuple[int, int] | None:
        """Return the time that the job sets when it closes a directory: seconds, and nanoseconds; `None`: it does not.

        The time is returned after the job was done, too, until it is closed.
        """

    def close(self) -> None:
        """Drop what was not done, and close the directories that the job was to close."""

@final
class Names:
    """A set of names, of which it keeps 64-bit hashes with a random key: see `layerstore_core.base.nameset.NameSet`."""

    def __init__(self) -> None: ...
    def add(self, name: bytes, /) -> bool: ...
    def update(self, names: Iterable[bytes], /) -> None: ...
    def add_run(self, run: Run, /) -> bool:
        """Add the paths of a run if all are new and none is twice in it; return whether they were added."""

    def add_empty(self, run: Run, /) -> None:
        """Add the paths of the entries of a run that have no payload, whether they are new or not."""

    def __contains__(self, name: bytes, /) -> bool: ...
    def __len__(self) -> int: ...

def pack(
    directory: int, above: bytes, names: tuple[bytes, ...], room: WriteableBuffer, used: int, /
) -> tuple[int, int]:
    """Append tar entries of plain files to a buffer: see `src/pack.h`.

    Args:
        directory: a descriptor of the directory that the files are in.
        above: its path in the tar, with a slash at the end unless it is empty.
        names: their names.
        room: the buffer.
        used: how many bytes of it are used.

    Returns:
        How many names, from the first on, were packed, and how many bytes are used then. The next one is not plain, or
        there is not enough room for any entry.
    """

def read_fields(
    directory: int, bases: tuple[bytes, ...], files: tuple[bytes, ...], needed: int, limit: int, /
) -> list[bytes | None]:
    """Read small files in each of several directories.

    Args:
        directory: a descriptor of the directory that these are in.
        bases: their names.
        files: the names of the files.
        needed: so many of them, from the first on, must be there.
        limit: each is shorter than this, in bytes.

    Returns:
        For each directory, the content of its files, each followed by a NUL; one that is not there has no content.
        `None` if a needed one is missing, or if any is empty, too long, or cannot be read.
    """

@final
class Pieces:
    """The usual tar-split lines of a block, decoded, up to the first that is not usual: a sequence of pieces.

    A piece is a segment and the file entry that follows it: the segment, and the entry's name, size and CRC-64. Either
    may be missing. `layerstore_core.tarsplit.codec` has the twin.

    Args:
        block: whole lines, with their newlines.
        position: where the first line begins.

    Attributes:
        end: where the first line begins that was not decoded.
        next: where the line after that one begins.
        lines: how many lines were decoded.
        size: how many bytes of the tar the pieces have.
    """

    end: int
    next: int
    lines: int
    size: int

    def __new__(cls, block: ReadableBuffer, position: int = 0, /) -> Self: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[bytes, bytes, int, int]: ...
    def plan(self, first: int, room: int, /) -> tuple[int, int]:
        """Return the piece after those, from `first` on, that fit into `room` bytes together, and their size."""

    def fill(
        self, first: int, last: int, root: int, memory: WriteableBuffer, sources: WriteableBuffer = ..., /
    ) -> tuple[int, int]:
        """Write the bytes of the pieces from `first` to before `last`; files are read below the directory `root`.

        Args:
            first: a number of a piece.
            last: likewise.
            root: a descriptor.
            memory: where the bytes are written.
            sources: gets four numbers of 64 bits for each piece: where its file's content begins in the memory, and
                the file's device, inode and time of change. The last three are 0 where no file was read.

        Returns:
            The first piece that was declined, or `last`, and how many bytes the pieces before it have. A piece is
            declined if its file cannot be opened in the plain way, or is not the registered one.
        """
