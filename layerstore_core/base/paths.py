"""Names in layers as relative paths, cleaned, and whether they leave the root; paths with `~` at their beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_DOTS: Final = (b"", b".", b"..")


def clean_name(name: bytes) -> bytes:
    """Return a name as a relative path without `.`, `..`, doubled and outer slashes, as Go's `path.Clean` does.

    The root is the empty name. The result begins with `..` only if the name leaves the root. The caller must refuse
    such a name. An absolute name cannot leave the root: `/../x` is `x`, as for the kernel.
    """
    if not name or name in (b".", b"/", b"./"):
        return b""
    # Nearly all names are clean, except for `./` at the beginning, and a slash at the end of directories.
    trimmed = name[2:] if name.startswith(b"./") else name
    if trimmed.endswith(b"/"):
        trimmed = trimmed[:-1]
    if (
        b"//" not in name
        and not trimmed.startswith((b"/", b"./", b"../"))
        and trimmed not in _DOTS
        and (b"/." not in trimmed or not _has_dots(trimmed))
    ):
        return trimmed
    parts: list[bytes] = []
    absolute = name.startswith(b"/")
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part != b"..":
            parts.append(part)
        elif parts and parts[-1] != b"..":
            parts.pop()
        elif not absolute:
            parts.append(part)
    return b"/".join(parts)


def _has_dots(name: bytes) -> bool:
    """Return whether a component of a name, except the first, is `.` or `..`."""
    return b"/./" in name or b"/../" in name or name.endswith((b"/.", b"/.."))


def leaves_root(clean: bytes) -> bool:
    """Return whether a cleaned name refers to a place outside of the root."""
    return clean == b".." or clean.startswith(b"../")


def expanded(path: Path) -> Path:
    """Return a path with the home directory in place of a `~` or `~user` at its beginning.

    Raises:
        ValueError: that home directory is not known.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"no home directory found for {path.parts[0]}") from None
