"""Docker's image records: configs, names, and which compressed blob became which layer.

::

    <root>/image/<driver>/
        imagedb/content/sha256/<image id>       the config's JSON, byte for byte; its sha256 is the ID
        imagedb/metadata/sha256/<image id>/     parent: the image that it was built from; lastUpdated: when it was named
                                                .tmp-unnamed: its names are still to be recorded
        repositories.json                       0600: the names
        distribution/diffid-by-digest/sha256/<digest of a compressed blob>      the diff ID
        distribution/v2metadata-by-diffid/sha256/<diff ID>      see `blob_sources`

The format is moby's (`image/fs.go`, `reference/store.go`, `distribution/metadata/`). A config may be any JSON that
Docker has accepted: only the parts that name layers are read here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import FILE_MODE, PARTIAL, replace_file
from layerstore_core.base.digests import ChainID, DiffID, ImageID, chain_ids
from layerstore_core.base.jsontext import json_problem
from layerstore_core.errors import BadRecord, LayerStoreError
from layerstore_core.log import logger
from layerstore_core.records.image_references import UNKNOWN_VERSION, ImageLayer, ImageReferences, ReferenceReader
from layerstore_core.records.own_state import lost_directory
from layerstore_core.tree.remove import remove_tree

#: In bytes. No config is nearly as long: Docker's own limit for configs that it pulls is 4 MiB.
MAX_CONFIG: Final = 16 << 20
_MAX_NAMES: Final = 64 << 20
_MAX_PARENT: Final = 4096
_HEX: Final = r"[0-9a-f]{64}"
_PARENT: Final = "parent"
_LAST_UPDATED: Final = "lastUpdated"
#: So many files are flushed one by one; more of them together, with all else on the file system.
_FEW: Final = 8
#: Ours: marks an image whose names are recorded next. Docker ignores the file.
_UNNAMED: Final = f"{PARTIAL}unnamed"


class ImageDB:
    """The image records next to one layerdb.

    Reading writes nothing. One store at a time may make changes.

    Args:
        path: `<root>/image/<driver>`.
        durable: whether a change is on disk when the call returns.
        version: see `ReferenceReader`.

    Attributes:
        names_path: the file of the names.
    """

    def __init__(
        self, path: Path, *, durable: bool = True, version: Callable[[], int] = lambda: UNKNOWN_VERSION
    ) -> None:
        self.path = path
        self._durable = durable
        #: The directory of the configs, which Docker makes when it starts.
        self.content = path / "imagedb" / "content" / "sha256"
        self._metadata = path / "imagedb" / "metadata" / "sha256"
        self.names_path = path / "repositories.json"
        self._by_digest = path / "distribution" / "diffid-by-digest" / "sha256"
        self._by_diff_id = path / "distribution" / "v2metadata-by-diffid" / "sha256"
        self._tops: dict[ImageID, ImageLayer | None] = {}
        #: Layers that images have in common are kept once.
        self._layers: dict[ChainID, ImageLayer] = {}
        self._references = ReferenceReader(self, version)

    def image_ids(self) -> list[ImageID]:
        """Return all images, sorted."""
        return [ImageID.from_hex(name) for name in inside.names(self.content) if re.fullmatch(_HEX, name)]

    def config_path(self, image: ImageID) -> Path:
        """Return the path of an image's config."""
        return self.content / image.hex

    def parent_path(self, image: ImageID) -> Path:
        """Return the path of the record of the image that this one was built from."""
        return self._metadata / image.hex / _PARENT

    def has(self, image: ImageID) -> bool:
        """Return whether there is such an image, with a sound config or not."""
        return inside.exists(self.content / image.hex)

    def open_configs(self) -> inside.Directory:
        """Open the directory of configs, to read many of them; errors as `inside.Directory`."""
        return inside.Directory(self.content)

    def open_metadata(self) -> inside.Directory:
        """Open the directory of what is recorded of images besides, to read it of many; errors as `open_configs`."""
        return inside.Directory(self._metadata)

    def read(self, image: ImageID, configs: inside.Directory | None = None) -> bytes:
        """Return an image's config.

        Args:
            image: the image.
            configs: what `open_configs` has returned.

        Raises:
            BadRecord: it is missing, or its digest is not its name.
            OSError: it cannot be read.
        """
        path = self.config_path(image)
        content = inside.read(path, MAX_CONFIG) if configs is None else configs.read(image.hex, MAX_CONFIG)
        if ImageID.of(content) != image:
            raise BadRecord(path, "the config has changed: its digest is not its name")
        return content

    def lost(self) -> BadRecord | None:
        """Return an error if the directory of configs is missing and is known to have existed."""
        return lost_directory(self.path.parent.parent, self.path.name, self.content, "images")

    def add(self, config: bytes, parent: ImageID | None = None, *, unnamed: bool = False) -> ImageID:
        """Record an image, to whose layers the caller has handles. A sound record that exists is not changed.

        An image that a killed removal has marked stays: the mark is removed, here or by `finish`.

        Args:
            config: its config.
            parent: the image that it was built from.
            unnamed: its names are recorded next, and then `finish` is called. If the process ends before that, a
                garbage collection removes the image.

        Raises:
            BadRecord: the other images are lost: a new directory would look as if there had been none.
            OSError: it cannot be recorded.
        """
        if lost := self.lost():
            raise lost
        image = ImageID.of(config)
        known = self.has(image)
        if not known and unnamed:
            self._write(self._metadata / image.hex / _UNNAMED, b"", mode=0o600)
        if not known and parent is not None:
            self._write(self.parent_path(image), parent.encode(), mode=0o600)
        if not known or not self._is_sound(image):
            self._write(self.config_path(image), config, mode=0o600)
        if known and not unnamed:
            self.finish([image])  # a removal that was killed has left its mark
        return image

    def finish(self, images: Collection[ImageID]) -> None:
        """End what `add` has begun: the names of these images are recorded."""
        for image in images:
            try:
                inside.unlink(self._metadata / image.hex / _UNNAMED, missing_ok=True)
            except (BadRecord, OSError) as error:  # the image has its names: a garbage collection removes the mark
                logger.warning("the mark of unnamed image {} remains: {}", image, error)

    def begin_removal(self, images: Collection[ImageID]) -> None:
        """Mark images that are removed next, with their names: if the process ends before, `gc` removes the rest.

        An image that cannot be marked, as on a full disk, is removed without.
        """
        each = self._durable and len(images) <= _FEW
        for image in images:
            with suppress(BadRecord, OSError):
                if self.has(image):
                    self._write(self._metadata / image.hex / _UNNAMED, b"", mode=0o600, durable=each)
        if self._durable and not each:
            from layerstore_core.base.durability import FlushPoint

            with suppress(BadRecord, OSError), FlushPoint(self.path) as point:
                point.flush()

    def remove(self, image: ImageID) -> None:
        """Remove an image; the records that other images were built from it are removed, too."""
        self.remove_all([image])

    def remove_all(
        self,
        images: Collection[ImageID],
        removed: Callable[[ImageID], object] = lambda _: None,
        children: Mapping[ImageID, Collection[ImageID]] | None = None,
    ) -> None:
        """Remove images as `remove` does. The records are read once, and each directory is flushed once.

        Args:
            images: the images.
            removed: called with each image that does not exist any more.
            children: the images that were built from each; `None`: read all records to find them.
        """
        if children is None:
            children = self.references().children
        # In these three steps, each on disk before the next: no record ever names an image that is gone, and no image
        # is left without the mark of `begin_removal`.
        self.clear_all(self.parent_path(child) for image in images for child in children.get(image, ()))
        self.clear_all((self.config_path(image) for image in images), lambda path: removed(ImageID.from_hex(path.name)))
        self.clear_all(self._metadata / image.hex for image in images)

    def half_done(self, members: Collection[ImageID] | None = ()) -> list[Path]:
        """Return what processes that ended during a change have left: `clear` may remove it while changes are locked.

        These are files that were not moved to their places yet, metadata of images that were removed or never
        recorded, and images whose names were never recorded.

        Args:
            members: images that belong to a name, although the list of names has another image for it; `None` where
                they are not known.
        """
        found = []
        for directory in (self.path, self.content, self._by_digest, self._by_diff_id):
            found += [directory / name for name in _names_in(directory) if name.startswith(PARTIAL)]
        known = set(_names_in(self.content))
        references = self.references()
        unreadable = references.unreadable
        for name in _names_in(self._metadata):
            if name in known:
                inner = self._metadata / name
                partial = [inner / part for part in _names_in(inner) if part.startswith(PARTIAL)]
                if inner / _UNNAMED in partial:
                    image = ImageID.from_hex(name)
                    if members is None or unreadable:
                        partial.remove(inner / _UNNAMED)
                    elif image not in members and self._is_unused(image):
                        partial = [self.content / name, inner]
                found += partial
            elif not unreadable:  # otherwise it may belong to an image whose config is lost
                found.append(self._metadata / name)
        return found

    def clear(self, path: Path) -> None:
        """Remove a file or a directory of the records, if it exists."""
        self.clear_all([path])

    def clear_all(self, paths: Iterable[Path], removed: Callable[[Path], object] = lambda _: None) -> None:
        """Remove files and directories of the records, in this order; each directory they were in is flushed once.

        Args:
            paths: what to remove; it need not exist.
            removed: called with each path when it is removed, before that is on disk.
        """
        changed: dict[Path, None] = {}
        try:
            for path in paths:
                if inside.exists(path):
                    remove_tree(os.fspath(path))
                    changed[path.parent] = None
                removed(path)
        finally:
            self._references.forget()
            if self._durable:
                for directory in changed:
                    inside.flush(directory)

    def parent(self, image: ImageID) -> ImageID | None:
        """Return the image that this one was built from, if that is recorded."""
        try:
            return self.recorded_parent(image)
        except (BadRecord, OSError):
            return None

    def recorded_parent(self, image: ImageID, metadata: inside.Directory | None = None) -> ImageID | None:
        """Return the same as `parent`, but raise an error where it cannot be read.

        Args:
            image: the image.
            metadata: what `open_metadata` has returned.

        Raises:
            BadRecord: the record is damaged.
            OSError: it cannot be read.
        """
        try:
            return ImageID(self._read_metadata(image, _PARENT, metadata).decode("ascii", "replace").strip())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise BadRecord(self.parent_path(image), str(error)) from None

    def children(self, image: ImageID) -> list[ImageID]:
        """Return the images that are recorded as built from this one."""
        return list(self.references().children.get(image, ()))

    def set_last_updated(self, image: ImageID, when: str | None = None) -> None:
        """Record when an image got a name.

        Args:
            image: the image.
            when: the time in RFC 3339; `None` for now, in Docker's notation.
        """
        if when is None:
            from datetime import UTC, datetime  # lazy: readers need no clock

            when = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._write(self._metadata / image.hex / _LAST_UPDATED, when.encode(), mode=0o600)

    def recorded_at(self, image: ImageID, configs: inside.Directory | None = None) -> float:
        """Return when an image's config was written, in seconds since 1970; 0 if it is gone; arguments as `read`."""
        try:
            path = self.config_path(image)
            return (inside.status(path) if configs is None else configs.status(path.name)).st_mtime
        except (BadRecord, OSError):
            return 0.0

    def last_updated(self, image: ImageID, metadata: inside.Directory | None = None) -> str:
        """Return when an image got a name, as it is recorded; `""` if not known; arguments as `recorded_parent`."""
        try:
            return self._read_metadata(image, _LAST_UPDATED, metadata).decode("ascii", "replace")
        except (BadRecord, OSError):
            return ""

    def names(self) -> dict[str, ImageID]:
        """Return all names, such as `debian:12`, as Docker shows them, and the image of each.

        Raises:
            BadRecord: the file of names is damaged.
        """
        try:
            content = inside.read(self.names_path, _MAX_NAMES)
        except FileNotFoundError:
            return {}
        import json  # lazy: commands on layers read no names

        try:
            document = json.loads(content)
            return {
                name: ImageID(image)
                for references in document["Repositories"].values()
                for name, image in references.items()
            }
        except (ValueError, RecursionError) as error:
            raise BadRecord(self.names_path, f"not a list of image names: {json_problem(error)}") from None
        except (KeyError, AttributeError, TypeError):
            raise BadRecord(self.names_path, "not a list of image names as Docker writes it: no Repositories") from None

    def set_names(self, names: Mapping[str, ImageID]) -> None:
        """Replace all names.

        Args:
            names: the image of each name, as `names` returns them.

        Raises:
            LayerStoreError: there are too many to be read again; nothing is changed.
        """
        import json

        repositories: dict[str, dict[str, str]] = {}
        for name, image in sorted(names.items()):
            repositories.setdefault(repository_of(name), {})[name] = image
        document = json.dumps({"Repositories": repositories}, separators=(",", ":"), ensure_ascii=False).encode()
        if len(document) > _MAX_NAMES:  # `names` would refuse to read it
            raise LayerStoreError(
                f"the names of images would take {len(document)} bytes; at most {_MAX_NAMES} are kept"
            )
        self._write(self.names_path, document, mode=0o600)

    def record_blob(self, digest: str, diff_id: DiffID) -> None:
        """Record that the compressed blob `digest`, a sha256, contains this layer: Docker need not pull it again."""
        self._write(self._by_digest / digest.removeprefix("sha256:"), diff_id.encode())

    def top_layer(self, image: ImageID) -> ChainID | None:
        """Return an image's topmost layer; `None` where it has none.

        Raises:
            BadRecord: its config is damaged.
            OSError: it cannot be read.
        """
        layer = self.top_of(image)
        return None if layer is None else layer.chain_id

    def top_of(self, image: ImageID, configs: inside.Directory | None = None) -> ImageLayer | None:
        """Return the same as `top_layer`, with all parents that the config names; arguments as `read`."""
        import json

        # A config never changes under its name, so it need not be read again.
        if image in (tops := self._tops):
            return tops[image]
        try:
            diff_ids = diff_ids_of(json.loads(self.read(image, configs)))
        except (ValueError, RecursionError) as error:
            raise BadRecord(self.config_path(image), f"not an image's config: {json_problem(error)}") from None
        layer = None
        for chain in chain_ids(diff_ids):
            layer = self._layers.setdefault(chain, ImageLayer(chain, layer))
        self._tops[image] = layer
        return layer

    def forget_all_but(self, images: Collection[ImageID]) -> None:
        """Discard what was read from the configs of other images."""
        tops = {image: top for image, top in self._tops.items() if image in images}
        if len(tops) < len(self._tops):
            layers: dict[ChainID, ImageLayer] = {}
            for layer in tops.values():
                while layer is not None and layer.chain_id not in layers:
                    layers[layer.chain_id] = layer
                    layer = layer.parent
            self._tops, self._layers = tops, layers

    def references(self) -> ImageReferences:
        """Return what the records refer to."""
        return self._references.read()

    def references_to(self, chain: ChainID) -> list[str]:
        """Return the images whose topmost layer this is, in words; where there is none, one that contains it."""
        references = self.references()
        images = references.tops.get(chain)
        if images is None:
            images = [references.layers[chain]] if chain in references.layers else []
        return [f"image {image}" for image in images]

    def all_references(self) -> Collection[ChainID]:
        """Return all layers of all images; see `ReferenceSource`."""
        return self.references().layers

    def unreadable(self) -> list[BadRecord]:
        """Return what cannot be read, or is missing, and may refer to any layer."""
        return self.references().unreadable

    def _read_metadata(self, image: ImageID, name: str, metadata: inside.Directory | None) -> bytes:
        if metadata is None:
            return inside.read(self._metadata / image.hex / name, _MAX_PARENT)
        return metadata.read(f"{image.hex}/{name}", _MAX_PARENT)

    def _is_unused(self, image: ImageID) -> bool:
        """Return whether an image has no name, and none was built from it."""
        return image not in self.names().values() and not self.children(image)

    def _is_sound(self, image: ImageID) -> bool:
        try:
            self.read(image)
        except (BadRecord, OSError):
            return False
        return True

    def _write(self, path: Path, content: bytes, *, mode: int = FILE_MODE, durable: bool = True) -> None:
        """Write a file and move it to its place, whole or not at all."""
        try:
            replace_file(path, content, mode, durable=durable and self._durable)
        finally:
            self._references.forget()


def diff_ids_of(config: Any) -> list[DiffID]:
    """Return the diff IDs of an image's layers, the base first, from its config.

    Raises:
        ValueError: it has no list of them, or one is no digest.
    """
    try:
        return [DiffID(text) for text in config["rootfs"].get("diff_ids") or ()]
    except (KeyError, TypeError, AttributeError):
        raise ValueError("it is no image's config: its rootfs has no list of diff_ids") from None


def repository_of(name: str) -> str:
    """Return a name without its tag or digest."""
    if "@" in name:
        return name.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def _names_in(directory: Path) -> list[str]:
    """Return the names in a directory, sorted; none where it cannot be read, so that nothing is cleared there."""
    try:
        return inside.names(directory)
    except (BadRecord, OSError):
        return []
