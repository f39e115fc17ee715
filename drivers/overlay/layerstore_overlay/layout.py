"""The driver's directories on disk: Docker's, file for file.

    l/<26 of A-Z2-7> -> ../<id>/diff     short names, for mount options that must be short
    <id>/diff/                           the layer's own files, and the marks of what it deletes
    <id>/link                            the layer's name in l/
    <id>/lower                           "l/…:l/…", the layers below, the nearest first
    <id>/work/                           overlayfs's own; only with a parent
    <id>/merged/                         where the layer is mounted; only while it is
    <id>/committed                       the layer has a child
    <id>/unsettled                       paths that depend on the layers below, until it is first used; ours
    <id>/empty/                          only if its root is opaque, once it was mounted; ours

A layer's directory is made before its link, and the link is removed before the directory: a link that
leads nowhere belongs to nobody, and whatever else a crash leaves is below a directory with a layer's ID.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import secrets
from collections.abc import Sequence
from typing import Final

from layerstore_core.archive.remove import remove_tree
from layerstore_core.errors import while_doing

LINKS: Final = "l"
#: Temporary directories begin so; no layer's ID does.
TEMPORARY: Final = ".layerstore-"
#: Notes that Docker does not know, and does not mind.
_NOTES: Final = "unsettled"
_LINK_LENGTH: Final = 26
_ID: Final = re.compile(r"[a-z0-9-]{1,128}")


class Layout:
    """The layers below `home`.

    Args:
        home: an absolute path without links.
        owner: user and group that the files of the layer's root user have on this host.
    """

    def __init__(self, home: str, owner: tuple[int, int]) -> None:
        self.home = home
        self._owner = owner

    def prepare(self) -> None:
        """Make home and the directory of links, where they are missing."""
        owner = (os.geteuid(), self._owner[1])
        os.makedirs(os.path.dirname(self.home), mode=0o711, exist_ok=True)
        for path, mode in (self.home, 0o710), (os.path.join(self.home, LINKS), 0o700):
            try:
                _make_directory(path, mode, owner)
            except FileExistsError:
                pass

    def path(self, layer_id: str, *below: str) -> str:
        """The path of a layer's directory, or of something in it."""
        return os.path.join(self.home, layer_id, *below)

    def exists(self, layer_id: str) -> bool:
        """Whether the layer was made whole."""
        return is_layer_id(layer_id) and os.path.lexists(self.path(layer_id, "link"))

    def require(self, layer_id: str) -> None:
        """Raises `FileNotFoundError` where there is no such layer."""
        if not self.exists(layer_id):
            raise FileNotFoundError(errno.ENOENT, "there is no such layer in the overlay2 driver", self.path(layer_id))

    def layer_ids(self) -> list[str]:
        """The IDs of all layers, whole or in part."""
        with os.scandir(self.home) as entries:
            return sorted(
                entry.name for entry in entries if is_layer_id(entry.name) and entry.is_dir(follow_symlinks=False)
            )

    def make_directory(self, layer_id: str) -> None:
        """Begin a layer: its directory, still empty.

        Raises:
            FileExistsError: the ID is in use.
        """
        if not is_layer_id(layer_id):
            raise FileExistsError(errno.EEXIST, "no layer can have this ID", self.path(layer_id))
        _make_directory(self.path(layer_id), 0o710, (os.geteuid(), self._owner[1]))

    def fill_directory(self, layer_id: str, lower: list[str]) -> None:
        """Make what is in a layer's directory, and at last its link.

        Args:
            lower: what `lower_for_child` of the parent has said; empty for a base layer.
        """
        _make_directory(self.path(layer_id, "diff"), 0o755, self._owner)
        if lower:
            _make_directory(self.path(layer_id, "work"), 0o700, self._owner)
            _write_file(self.path(layer_id, "lower"), ":".join(lower), 0o644)
        link = new_link_name()
        _write_file(self.path(layer_id, "link"), link, 0o644)
        os.symlink(os.path.join("..", layer_id, "diff"), os.path.join(self.home, LINKS, link))

    def lower(self, layer_id: str) -> list[str]:
        """The layers below, as `l/…` relative to home, the nearest first."""
        try:
            text = _read_file(self.path(layer_id, "lower"))
        except FileNotFoundError:
            return []
        return text.split(":") if text else []

    def link(self, layer_id: str) -> str:
        """The layer's own short name, `l/…`.

        Raises:
            FileNotFoundError: there is no such layer.
        """
        self.require(layer_id)
        return os.path.join(LINKS, _read_file(self.path(layer_id, "link")))

    def lower_for_child(self, layer_id: str) -> list[str]:
        """What stands in `lower` of this layer's children."""
        return [self.link(layer_id), *self.lower(layer_id)]

    def resolve(self, link: str) -> str:
        """The `diff` directory that a short name leads to.

        Raises:
            FileNotFoundError: the link is not there.
        """
        return os.path.normpath(os.path.join(self.home, LINKS, os.readlink(os.path.join(self.home, link))))

    def is_committed(self, layer_id: str) -> bool:
        """Whether the layer has had a child, and must not change any more."""
        return os.path.lexists(self.path(layer_id, "committed"))

    def commit(self, layer_id: str) -> None:
        """Note that the layer has a child."""
        if not self.is_committed(layer_id):
            try:
                _write_file(self.path(layer_id, "committed"), "", 0o600)
            except FileExistsError:
                pass

    def make_merged(self, layer_id: str) -> str:
        """Make the directory where the layer is mounted, if it is not there; its path."""
        path = self.path(layer_id, "merged")
        try:
            _make_directory(path, 0o700, self._owner)
        except FileExistsError:
            pass
        return path

    def make_empty(self, layer_id: str) -> str:
        """An empty directory, relative to home, for a layer that hides all below it: overlayfs wants one below."""
        path = os.path.join(layer_id, "empty")
        os.makedirs(os.path.join(self.home, path), mode=0o700, exist_ok=True)
        return path

    def write_notes(self, layer_id: str, notes: Sequence[bytes]) -> None:
        """Keep notes beside a layer, without NUL."""
        target = self.path(layer_id, _NOTES)
        with open(target + ".new", "wb") as file:
            file.write(b"\0".join(notes))
        os.replace(target + ".new", target)

    def read_notes(self, layer_id: str) -> list[bytes]:
        """What `write_notes` has kept."""
        try:
            with open(self.path(layer_id, _NOTES), "rb") as file:
                return file.read().split(b"\0")
        except FileNotFoundError:
            return []

    def remove_notes(self, layer_id: str) -> None:
        """Forget what `write_notes` has kept."""
        try:
            os.unlink(self.path(layer_id, _NOTES))
        except FileNotFoundError:
            pass

    def remove(self, layer_id: str) -> None:
        """Delete the layer, or what there is of it. It must not be mounted."""
        with while_doing(f"removing the layer {layer_id}"):
            try:
                link = _read_file(self.path(layer_id, "link"))
            except (FileNotFoundError, NotADirectoryError):
                link = ""
            if is_link_name(link):
                try:
                    os.unlink(os.path.join(self.home, LINKS, link))
                except FileNotFoundError:
                    pass
            remove_tree(self.path(layer_id))

    def links_to(self, layer_id: str) -> list[str]:
        """The short names, without `l/`, that lead to a layer, sorted."""
        directory, target = os.path.join(self.home, LINKS), os.path.join("..", layer_id, "diff")
        return [name for name in sorted(os.listdir(directory))
                if is_link_name(name) and _read_link(os.path.join(directory, name)) == target]  # fmt: skip

    def read_field(self, layer_id: str, name: str) -> str | None:
        """What stands in `link` or `lower`; `None` where it cannot be read."""
        try:
            return _read_file(self.path(layer_id, name))
        except (OSError, UnicodeDecodeError):
            return None

    def rewrite_field(self, layer_id: str, name: str, text: str) -> None:
        """Replace `link` or `lower`, whole or not at all, and on disk when this returns."""
        path = self.path(layer_id, name)
        partial = path + ".new"
        if os.path.lexists(partial):
            os.unlink(partial)
        _write_file(partial, text, 0o644)
        _flush(partial)
        os.replace(partial, path)
        _flush(self.path(layer_id))

    def make_link(self, layer_id: str, link: str) -> None:
        """Make the short name `link` lead to the layer."""
        path = os.path.join(self.home, LINKS, link)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(os.path.join("..", layer_id, "diff"), path)
        _flush(os.path.join(self.home, LINKS))

    def make_work(self, layer_id: str) -> None:
        """Make the directory that overlayfs works in."""
        _make_directory(self.path(layer_id, "work"), 0o700, self._owner)

    def stray_links(self) -> list[str]:
        """Short names that lead nowhere: their layers are gone."""
        directory = os.path.join(self.home, LINKS)
        return [os.path.join(directory, name) for name in sorted(os.listdir(directory))
                if not os.path.exists(os.path.join(directory, name))]  # fmt: skip


def is_layer_id(name: str) -> bool:
    """Whether a layer can have this ID: `l` has another meaning here."""
    return name != LINKS and _ID.fullmatch(name) is not None


def is_link_name(name: str) -> bool:
    """Whether this can be a short name."""
    return re.fullmatch(rf"[A-Z2-7]{{{_LINK_LENGTH}}}", name) is not None


def new_link_name() -> str:
    """A short name that nobody has."""
    return base64.b32encode(secrets.token_bytes(17)).decode()[:_LINK_LENGTH]


def _make_directory(path: str, mode: int, owner: tuple[int, int]) -> None:
    os.mkdir(path, 0o700)
    try:
        if owner != (os.geteuid(), os.getegid()):
            os.chown(path, *owner)
        os.chmod(path, mode)
    except BaseException:
        os.rmdir(path)
        raise


def _write_file(path: str, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        file.write(text)
        os.fchmod(fd, mode)


def _read_file(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _read_link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _flush(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
