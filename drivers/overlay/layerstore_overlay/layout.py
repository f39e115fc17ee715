"""The driver's directories on disk: Docker's, file for file.

    l/<26 of A-Z2-7> -> ../<id>/diff     short names, for mount options that must be short
    <id>/diff/                           the layer's own files, and the marks of deleted names
    <id>/link                            the layer's name in l/
    <id>/lower                           "l/…:l/…", the lower layers, the uppermost first
    <id>/work/                           overlayfs's working directory; only with a parent
    <id>/merged/                         the mount point; only while the layer is mounted
    <id>/committed                       exists if the layer has a child, or is sealed
    <id>/given                           exists if another program may have mounted the layer, writable; not in Docker
    <id>/unsettled                       notes: paths that depend on lower layers, until the first use; not in Docker
    <id>/empty/                          if the layer's root is opaque, from its first mount on; not in Docker

A layer's directory is made before its link, and the link is removed before the directory. So a link that leads nowhere
is stale, and all else that a crash leaves is in a directory whose name is a layer's ID.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Final

from layerstore_core import remove_tree
from layerstore_core.errors import BadRecord, while_doing
from layerstore_core.sdk import inside

LINKS: Final = "l"
#: Names of temporary directories begin with this; no layer's ID does.
TEMPORARY: Final = ".layerstore-"
#: The file of notes, which Docker ignores.
_NOTES: Final = "unsettled"
_LINK_LENGTH: Final = 26
#: The longest files that are read, in bytes. `lower` has 29 bytes for each of at most 500 layers; notes have paths.
_LONGEST_FIELD: Final = 64 << 10
_LONGEST_NOTES: Final = 256 << 20
#: The target of a short name.
_TARGET: Final = r"\.\./([a-z0-9-]{1,128})/diff"
_CHECK: Final = "`layerstore check` shows whether it can be repaired"
_ID: Final = r"[a-z0-9-]{1,128}"


class Layout:
    """The driver's files on disk.

    Args:
        home: the driver's home, an absolute path without symbolic links.
        owner: user and group on this host of the root user in layers.
    """

    def __init__(self, home: str, owner: tuple[int, int]) -> None:
        self.home = home
        self._owner = owner
        self._links: tuple[int, dict[str, list[str]]] | None = None

    @cached_property
    def foreign_owner(self) -> int | None:
        """The user who owns the home, if this process acts for root, and neither root nor its mapping is that user."""
        owner = os.stat(self.home).st_uid
        return owner if os.geteuid() == 0 and owner not in (0, self._owner[0]) else None

    def prepare(self) -> None:
        """Make the home and the directory of short names, if they are missing."""
        owner = (os.geteuid(), self._owner[1])
        os.makedirs(os.path.dirname(self.home), mode=0o711, exist_ok=True)
        for path, mode in (self.home, 0o710), (os.path.join(self.home, LINKS), 0o700):
            _make_directory(path, mode, owner)

    def path(self, layer_id: str, *names: str) -> str:
        """Return the path of a layer's directory, or of something in it."""
        return os.path.join(self.home, layer_id, *names)

    def exists(self, layer_id: str) -> bool:
        """Return whether the layer exists, and its creation was completed."""
        return is_layer_id(layer_id) and inside.exists(self.path(layer_id, "link"))

    def require(self, layer_id: str) -> None:
        """Raise `FileNotFoundError` if there is no such layer."""
        if not self.exists(layer_id):
            raise FileNotFoundError(errno.ENOENT, "there is no such layer in the overlay2 driver", self.path(layer_id))

    def layer_ids(self) -> list[str]:
        """Return the IDs of all layers, complete or not."""
        return list(filter(is_layer_id, inside.directory_names(self.home)))

    def make_directory(self, layer_id: str) -> None:
        """Make the directory of a new layer, still empty.

        Raises:
            FileExistsError: the ID is in use.
        """
        if not is_layer_id(layer_id):
            raise FileExistsError(errno.EEXIST, "no layer can have this ID", self.path(layer_id))
        inside.mkdir(self.path(layer_id), 0o710, (os.geteuid(), self._owner[1]))

    def fill_directory(self, layer_id: str, lower: list[str]) -> None:
        """Make everything in the directory of a new layer, and at last its short name.

        Args:
            layer_id: the layer.
            lower: the result of `lower_for_child` for the parent; empty for a base layer.
        """
        inside.mkdir(self.path(layer_id, "diff"), 0o755, self._owner)
        if lower:
            inside.mkdir(self.path(layer_id, "work"), 0o700, self._owner)
            inside.write(self.path(layer_id, "lower"), ":".join(lower).encode("ascii"), 0o644, new=True)
        link = new_link_name()
        inside.write(self.path(layer_id, "link"), link.encode("ascii"), 0o644, new=True)
        self._make_link(layer_id, link)

    def lower(self, layer_id: str) -> list[str]:
        """Return the short names of the lower layers, as `l/…`, the uppermost first.

        Raises:
            BadRecord: the file is missing, or has something else in it.
        """
        path = self.path(layer_id, "lower")
        try:
            text = _read_file(path)
        except FileNotFoundError:
            if inside.exists(self.path(layer_id, "work")):  # a base layer has none
                raise BadRecord(path, f"it is missing, but the layer has a parent; {_CHECK}") from None
            return []
        links = text.split(":")
        for link in links:
            directory, _, name = link.partition("/")
            if directory != LINKS or not is_link_name(name):
                raise BadRecord(
                    path, f"it names {link[:80]!r}, but lower layers are named by {LINKS}/ and a short name; {_CHECK}"
                )
        return links

    def link(self, layer_id: str) -> str:
        """Return the layer's own short name, as `l/…`.

        Raises:
            FileNotFoundError: there is no such layer.
        """
        self.require(layer_id)
        return os.path.join(LINKS, _read_file(self.path(layer_id, "link")))

    def lower_for_child(self, layer_id: str) -> list[str]:
        """Return the short names for the `lower` files of this layer's children."""
        return [self.link(layer_id), *self.lower(layer_id)]

    def resolve(self, link: str) -> str:
        """Return the `diff` directory that a short name leads to. The symbolic link is read, and never followed.

        Raises:
            FileNotFoundError: there is no such link.
            BadRecord: it is no link, or leads elsewhere.
        """
        path = os.path.join(self.home, link)
        with inside.parent(path) as (above, name):
            target = _read_link(name, above)
        found = re.fullmatch(_TARGET, target) if target is not None else None
        if found is None:
            if not inside.exists(path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            leads = f"it leads to {target[:80]!r}" if target is not None else "it is no symbolic link"
            raise BadRecord(path, f"{leads}, but a short name leads to ../<layer>/diff; {_CHECK}")
        return self.path(found[1], "diff")

    def resolve_all(self, links: Sequence[str]) -> list[str]:
        """Return the `diff` directories that the short names of `lower` lead to. Errors are those of `resolve`."""
        if not links:
            return []
        with inside.open_directory(self.path(LINKS)) as above:
            targets = [_read_link(os.path.basename(link), above) for link in links]
        found = [re.fullmatch(_TARGET, target) if target is not None else None for target in targets]
        return [
            self.path(match[1], "diff") if match is not None else self.resolve(link)
            for link, match in zip(links, found, strict=True)
        ]

    def is_committed(self, layer_id: str) -> bool:
        """Return whether the layer has had a child or is sealed, and so must not change."""
        return inside.exists(self.path(layer_id, "committed"))

    def commit(self, layer_id: str) -> None:
        """Mark the layer as one that does not change any more: it has a child, or is sealed."""
        self._mark(layer_id, "committed")

    def is_given(self, layer_id: str) -> bool:
        """Return whether another program may have mounted the layer, writable."""
        return inside.exists(self.path(layer_id, "given"))

    def give(self, layer_id: str) -> None:
        """Mark the layer as one that another program may have mounted, writable."""
        self._mark(layer_id, "given")

    def _mark(self, layer_id: str, name: str) -> None:
        if not inside.exists(self.path(layer_id, name)):
            try:
                inside.write(self.path(layer_id, name), b"", 0o600, new=True)
            except FileExistsError:
                pass

    def make_merged(self, layer_id: str) -> str:
        """Make the layer's mount point, if it is missing; return its path."""
        path = self.path(layer_id, "merged")
        _make_directory(path, 0o700, self._owner)
        return path

    def make_empty(self, layer_id: str) -> str:
        """Make an empty lower directory for a layer with an opaque root, since overlayfs needs one.

        Returns:
            Its path, relative to home.
        """
        path = os.path.join(layer_id, "empty")
        _make_directory(os.path.join(self.home, path), 0o700, (os.geteuid(), os.getegid()))
        return path

    def write_notes(self, layer_id: str, notes: Sequence[bytes]) -> None:
        """Write the notes of a layer: byte strings without NUL."""
        target = self.path(layer_id, _NOTES)
        inside.write(target + ".new", b"\0".join(notes), 0o600)
        inside.rename(target + ".new", target)

    def read_notes(self, layer_id: str) -> list[bytes]:
        """Return the notes that `write_notes` has written; none if there are none."""
        try:
            notes = inside.read(self.path(layer_id, _NOTES), _LONGEST_NOTES).split(b"\0")
        except FileNotFoundError:
            return []
        if any(note[1:2] == b"/" or b".." in note[1:].split(b"/") for note in notes):
            raise BadRecord(self.path(layer_id, _NOTES), f"it has a path that leads out of the layer; {_CHECK}")
        return notes

    def remove_notes(self, layer_id: str) -> None:
        """Remove the notes of a layer."""
        inside.unlink(self.path(layer_id, _NOTES), missing_ok=True)

    def remove(self, layer_id: str) -> None:
        """Delete a layer, complete or not. It must not be mounted."""
        with while_doing(f"removing the layer {layer_id}"):
            try:
                link = _read_file(self.path(layer_id, "link"))
            except (FileNotFoundError, BadRecord):
                link = ""
            if is_link_name(link):
                inside.unlink(os.path.join(self.home, LINKS, link), missing_ok=True)
            remove_tree(self.path(layer_id))

    def leads_to(self, link: str, layer_id: str) -> bool:
        """Return whether a short name, given without `l/`, leads to a layer."""
        with inside.parent(os.path.join(self.home, LINKS, link)) as (above, name):
            return _read_link(name, above) == os.path.join("..", layer_id, "diff")

    def links_to(self, layer_id: str) -> list[str]:
        """Return the short names, without `l/`, that lead to a layer, sorted."""
        return [link for link in self._all_links().get(layer_id, ()) if self.leads_to(link, layer_id)]

    def _all_links(self) -> dict[str, list[str]]:
        """Return the short names of all layers, by layer.

        A check asks for many layers, so the names are listed again only if the directory has changed.
        """
        changed = inside.status(os.path.join(self.home, LINKS)).st_mtime_ns
        if self._links is None or self._links[0] != changed:
            found: dict[str, list[str]] = {}
            for name, target in self._targets():
                found.setdefault(os.path.basename(os.path.dirname(target)), []).append(name)
            self._links = changed, found
        return self._links[1]

    def read_field(self, layer_id: str, name: str) -> str | None:
        """Return the content of `link` or `lower`; `None` if it cannot be read."""
        try:
            return _read_file(self.path(layer_id, name))
        except (OSError, UnicodeDecodeError, BadRecord):
            return None

    def rewrite_field(self, layer_id: str, name: str, text: str) -> None:
        """Replace the content of `link` or `lower` atomically and durably.

        Raises:
            OSError: it cannot be written, or a directory with entries is in its place. Then nothing has changed.
        """
        path = self.path(layer_id, name)
        partial = path + ".new"
        remove_tree(partial)
        try:
            inside.write(partial, text.encode("ascii"), 0o644, new=True, durable=True)
            if inside.is_directory(path):
                inside.rmdir(path)
            inside.rename(partial, path)
        except BaseException:
            remove_tree(partial)
            raise
        inside.flush(self.path(layer_id))

    def make_link(self, layer_id: str, link: str) -> None:
        """Make the short name `link` lead to the layer."""
        inside.unlink(os.path.join(self.home, LINKS, link), missing_ok=True)
        self._make_link(layer_id, link)
        inside.flush(os.path.join(self.home, LINKS))
        if self._links is not None:
            self._links[1].setdefault(layer_id, []).append(link)
            self._links = inside.status(os.path.join(self.home, LINKS)).st_mtime_ns, self._links[1]

    def make_work(self, layer_id: str) -> None:
        """Make the working directory of overlayfs."""
        inside.mkdir(self.path(layer_id, "work"), 0o700, self._owner)

    def stale_links(self) -> list[str]:
        """Return the paths of stale short names: their layers do not exist."""
        directory = os.path.join(self.home, LINKS)
        return [
            os.path.join(directory, name)
            for name, leads_to in self._targets()
            if (found := re.fullmatch(_TARGET, leads_to)) is not None and not self._has_files(found[1])
        ]

    def _has_files(self, layer_id: str) -> bool:
        try:
            return inside.exists(self.path(layer_id, "diff"))
        except FileNotFoundError:
            return False

    def _targets(self) -> list[tuple[str, str]]:
        """Return all short names, without `l/`, and their targets, sorted."""
        with inside.open_directory(os.path.join(self.home, LINKS)) as fd:
            names = filter(is_link_name, sorted(os.listdir(fd)))
            return [(name, target) for name in names if (target := _read_link(name, fd)) is not None]

    def _make_link(self, layer_id: str, link: str) -> None:
        with inside.parent(os.path.join(self.home, LINKS, link)) as (above, name):
            os.symlink(os.path.join("..", layer_id, "diff"), name, dir_fd=above)


def is_layer_id(name: str) -> bool:
    """Return whether a layer can have this ID. It cannot be `l`, the directory of short names."""
    return name != LINKS and re.fullmatch(_ID, name) is not None


def is_link_name(name: str) -> bool:
    """Return whether this can be a short name."""
    return re.fullmatch(rf"[A-Z2-7]{{{_LINK_LENGTH}}}", name) is not None


def new_link_name() -> str:
    """Return a random short name, which no layer has."""
    import base64  # lazy: for new layers

    return base64.b32encode(os.urandom(17)).decode()[:_LINK_LENGTH]


def _make_directory(path: str, mode: int, owner: tuple[int, int]) -> None:
    """Make a directory, if it is missing."""
    try:
        inside.mkdir(path, mode, owner)
    except FileExistsError:
        inside.open_directory(path).close()


def _read_file(path: str) -> str:
    return inside.read(path, _LONGEST_FIELD).decode("ascii").strip()


def _read_link(name: str, directory: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None
