"""The sources of `append` and `import`: which of a directory, a tar and a file something is, and where it goes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from layerstore_core.base.times import parse_rfc3339
from layerstore_core.errors import InvalidSource
from layerstore_core.images.config.created import creation_time
from layerstore_core.images.layer.builder import LayerBuilder
from layerstore_core.images.layer.tar_source import is_tar
from layerstore_core.tree.xattrs import read_xattrs

if TYPE_CHECKING:
    from layerstore_core.store.store import LayerStore
    from layerstore_core.view.tree import TreeView

#: A source, and the path in the image where it goes; without a path it goes into the root.
Source = str | os.PathLike[str] | tuple[str | os.PathLike[str], str]
#: The longest file of users or groups that is read, in bytes.
_MAX_ACCOUNTS: Final = 4 << 20
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


def split_source(text: str) -> tuple[str, str]:
    """Split `SOURCE[:DEST]`, as the command line has it. DEST begins with a slash; the last `:/` separates them."""
    source, colon, dest = text.rpartition(":/")
    return (source, "/" + dest) if colon else (text, "/")


def add_source(builder: LayerBuilder, source: str, dest: str, forbidden: Mapping[tuple[int, int], str]) -> str:
    """Add a source to a layer, as Docker's ADD does: a directory's content, a tar's entries, or a file.

    A file goes into `dest` if that is a directory, or ends with a slash; otherwise `dest` is its new path. A symbolic
    link that is given as a source is followed; those in a directory are kept.

    Args:
        builder: the layer.
        source: the path of a file, directory or tar.
        dest: a path in the image.
        forbidden: see `LayerBuilder.add_tree`.

    Returns:
        The path in the image where it went.

    Raises:
        InvalidSource: it is something else, or cannot be added.
        InvalidLayer: it is a damaged tar.
        OSError: it cannot be read.
    """
    if not source:
        raise InvalidSource(f"there is no source before {dest!r}; write SOURCE:DEST")
    status = os.stat(source)
    if stat.S_ISDIR(status.st_mode):
        builder.add_tree(dest, source, forbidden=forbidden)
    elif not stat.S_ISREG(status.st_mode):
        raise InvalidSource(f"{source} is neither a file nor a directory; give one of these")
    elif is_tar(source):
        builder.add_tar(dest, source)
    else:
        into = dest.endswith("/") or builder.is_directory(dest)
        target = os.path.join(dest, os.path.basename(os.path.abspath(source))) if into else dest
        builder.add_file(target, source, xattrs=read_xattrs(os.path.realpath(source)))
        return target
    return dest


def own_files(store: LayerStore) -> dict[tuple[int, int], str]:
    """Return the store's directory as one that must not be in a source: it changes while the layer is made."""
    status = store.root.stat()
    return {(status.st_dev, status.st_ino): "is the root of this store, which cannot be a part of a layer in it"}


def parse_mode(text: str) -> int:
    """Read permission bits in octal.

    Raises:
        ValueError: they are none.
    """
    if not re.fullmatch(r"0?[0-7]{3,4}|0o[0-7]{3,4}", text, re.ASCII):
        raise ValueError(f"{text[:80]!r} is not a mode; write it in octal, such as 755 or 0644")
    return int(text.removeprefix("0o"), 8)


def parse_time(given: str | datetime | int) -> int:
    """Read a time, in nanoseconds since 1970: as `creation_time`, or already a number of nanoseconds.

    Raises:
        ValueError: it is not a time.
        LayerStoreError: as for `creation_time`.
    """
    if isinstance(given, int):
        return given
    time = parse_rfc3339(creation_time(given))
    assert time is not None
    return time


def split_owner(text: str) -> tuple[str, str]:
    """Split `USER[:GROUP]`; the group is empty if there is none.

    Raises:
        ValueError: it is no owner.
    """
    user, colon, group = text.partition(":")
    if not user or (colon and not group):
        raise ValueError(f"{text[:80]!r} is not an owner; write USER or USER:GROUP, names or numbers")
    for number in (user, group):
        if _NUMBER.fullmatch(number) and int(number) >= 1 << 32:
            raise ValueError(f"{number} is too large for the number of a user or a group")
    return user, group


def parse_owner(text: str, view: TreeView) -> tuple[int, int]:
    """Read an owner, `USER[:GROUP]`: numbers, or names that the image has in its `/etc/passwd` and `/etc/group`.

    Without a group it is the number of the user, as in Docker's `--chown`.

    Raises:
        InvalidSource: the image has no such user or group.
        ValueError: it is no owner.
    """
    user, group = split_owner(text)
    uid = _account(user, "etc/passwd", "user", view)
    return uid, _account(group, "etc/group", "group", view) if group else uid


def _account(name: str, file: str, what: str, view: TreeView) -> int:
    if _NUMBER.fullmatch(name):
        return int(name)
    try:
        with view.open(os.fsencode(file)) as accounts:
            data = accounts.read(_MAX_ACCOUNTS)
    except OSError as error:
        raise InvalidSource(
            f"the {what} {name[:80]!r} of the new owner (--chown) has no number: /{file} of the image cannot be read "
            f"({error.strerror}); give a number"
        ) from None
    wanted = os.fsencode(name)
    for line in data.splitlines():
        fields = line.split(b":")
        if fields[0] == wanted and len(fields) > 2 and _NUMBER.fullmatch(fields[2].decode("latin-1")):
            return int(fields[2])
    raise InvalidSource(
        f"the {what} {name[:80]!r} of the new owner (--chown) is not in /{file} of the image; give a number, or one "
        "that it has"
    )
