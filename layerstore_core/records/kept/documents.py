"""What belongs to images and Docker's records have no place for: manifests, indexes, annotations and referrers.

::

    <root>/layerstore/manifests/<driver>/
        <algorithm>/<hex>       a document, byte for byte: a manifest, an index, or a blob of an artifact
        images/<image ID hex>   the origin of an image
        names.json              the origins of names: {name: {image ID: origin}}

An origin (`Origin`) lists the documents that belong to an image or a name; a document that no origin lists is not
needed any more. The origin of a name counts only while Docker's list of names has that image for the name: Docker may
move a name and knows nothing of origins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import FILE_MODE, PARTIAL, make_directory, replace_file
from layerstore_core.base.digests import ImageID
from layerstore_core.base.jsontext import json_problem
from layerstore_core.errors import BadRecord, LayerStoreError
from layerstore_core.records.kept import names_limit
from layerstore_core.records.kept.names_limit import encode_names
from layerstore_core.records.kept.origin import NameOrigins, Origin, check_digest, digest_of, encode
from layerstore_core.records.kept.survey import Survey
from layerstore_core.records.own_state import state_directory

#: The largest document, in bytes. Manifests are smaller; lists of a large image's packages may have some MiB.
MAX_DOCUMENT: Final = 64 << 20
#: The most documents and referrers of one origin.
MAX_DOCUMENTS: Final = 10_000
#: The largest origin of an image, in bytes. What `load` keeps of a layout is less than half of it.
_MAX_ORIGIN: Final = 16 << 20
_HEX = re.compile(r"[0-9a-f]{64}(?:[0-9a-f]{64})?", re.ASCII)
_IMAGE = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ALGORITHMS: Final = ("sha256", "sha512")
_IMAGES: Final = "images"
_NAMES: Final = "names.json"


class KeptDocuments:
    """The documents and origins of one driver's images.

    Reading writes nothing. Changes are made under the lock on the image records (`StoreContext.changing_images`).

    Args:
        root: the store's directory.
        driver: the driver's name on disk.
        durable: whether a change is on disk when the call returns.

    Attributes:
        path: `<root>/layerstore/manifests/<driver>`.
        names_path: the file of the origins of names.
    """

    def __init__(self, root: Path, driver: str, *, durable: bool = True) -> None:
        self.path = state_directory(root, "manifests", driver)
        self.names_path = self.path / _NAMES
        self._images = self.path / _IMAGES
        #: A note that the directories exist: if one is missing later, it was lost.
        self._note = state_directory(root, "kept", driver)
        self._durable = durable

    # Documents

    def path_of(self, digest: str) -> Path:
        """Return the path of a document, whether it exists or not.

        Raises:
            ValueError: the digest is none of sha256 or sha512.
        """
        algorithm, _, digits = check_digest(digest).partition(":")
        return self.path / algorithm / digits

    def has(self, digest: str) -> bool:
        """Return whether a document exists, sound or not."""
        return inside.exists(self.path_of(digest))

    def read(self, digest: str) -> bytes:
        """Return a document.

        Raises:
            BadRecord: it is missing, or damaged: its digest is not its name.
            OSError: it cannot be read.
        """
        path = self.path_of(digest)
        try:
            content = inside.read(path, MAX_DOCUMENT)
        except FileNotFoundError:
            raise BadRecord(path, "the document is missing") from None
        if digest_of(content, digest.partition(":")[0]) != digest:
            raise BadRecord(path, "the document has changed: its digest is not its name")
        return content

    @contextmanager
    def putting(self) -> Iterator[Callable[[str, bytes | Callable[[], bytes]], bool]]:
        """Yield a function as `put` for a block. At its end all documents are on disk, also those that were there.

        They are flushed together. Write what refers to them after the block.
        """
        if not self._durable:
            yield self.put
            return
        from layerstore_core.base.durability import FlushPoint

        self._prepare()
        with FlushPoint(self.path) as point:
            yield partial(self.put, durable=False)
            point.flush()

    def is_sound(self, digest: str) -> bool:
        """Return whether a document is there, and has its digest."""
        try:
            self.read(digest)
        except (BadRecord, OSError, ValueError):  # or it is no digest
            return False
        return True

    def put(self, digest: str, content: bytes | Callable[[], bytes], *, durable: bool = True) -> bool:
        """Write a document, unless it is there. A damaged one is replaced.

        Args:
            digest: its digest, which the caller has verified.
            content: its bytes, or returns them: it is called only if they are to be written.
            durable: whether it is flushed by itself; see `putting`.

        Returns:
            Whether it was not there before.

        Raises:
            BadRecord: the other documents are lost.
            OSError: it cannot be written.
        """
        self._prepare()
        path = self.path_of(digest)
        there = inside.exists(path)
        if there and self.is_sound(digest):
            return False
        self._write(path, content if isinstance(content, bytes) else content(), durable=durable)
        return not there

    # Origins

    def survey(self) -> Survey:
        """Read all origins at once, quickly. What cannot be read is no error: `Survey.unreadable` has it."""
        if lost := self.lost():
            return Survey(unreadable=[lost])
        found = Survey()
        try:
            directory = inside.Directory(self._images)
        except (BadRecord, OSError) as error:
            return Survey(unreadable=[_bad(self._images, error)])
        with directory:
            for name in directory.names():
                if _IMAGE.fullmatch(name):
                    path = self._images / name
                    try:
                        origin = self._parse(path, directory.read(name, _MAX_ORIGIN))
                    except FileNotFoundError:  # removed by another process meanwhile
                        continue
                    except (BadRecord, OSError) as error:
                        found.unreadable.append(_bad(path, error))
                    else:
                        found.images[ImageID.from_hex(name)] = origin
        try:
            found.names.update(self.names())
        except (BadRecord, OSError) as error:
            found.unreadable.append(_bad(self.names_path, error))
        return found

    def of_image(self, image: ImageID) -> Origin | None:
        """Return the origin of an image; `None` if there is none.

        Raises:
            BadRecord: it is damaged, or all are lost.
            OSError: it cannot be read.
        """
        path = self._images / image.hex
        try:
            return self._parse(path, inside.read(path, _MAX_ORIGIN))
        except FileNotFoundError:
            if lost := self.lost():
                raise lost from None
            return None

    def of_name(self, name: str, image: ImageID) -> Origin | None:
        """Return the origin of a name as long as it is an image's; `None` if there is none; errors as `of_image`."""
        with self._parsing_names():
            origin = self._raw_names().get(name, {}).get(image)
            return None if origin is None else Origin.of(origin)

    def names(self) -> NameOrigins:
        """Return the origins of all names, of which some may not count any more; errors as `of_image`."""
        with self._parsing_names():
            return {
                str(name): {ImageID(image): Origin.of(origin) for image, origin in origins.items()}
                for name, origins in self._raw_names().items()
            }

    def members(self) -> dict[str, dict[str, tuple[ImageID, ...]]]:
        """Return the images of names that stand for several, by name and by the image in Docker's list.

        Quicker than `names`: the other origins are not looked at. Errors as `of_image`.
        """
        with self._parsing_names():
            return {
                name: found
                for name, origins in self._raw_names().items()
                if (
                    found := {
                        image: tuple(map(ImageID, origin["images"]))
                        for image, origin in origins.items()
                        if len(origin.get("images", ())) > 1
                    }
                )
            }

    def _raw_names(self) -> dict[str, Any]:
        """Return the parsed file of the origins of names; errors as `of_image`, and those of JSON."""
        try:
            data = inside.read(self.names_path, names_limit.MAX_NAMES)
        except FileNotFoundError:
            if lost := self.lost():
                raise lost from None
            return {}
        found = json.loads(data)
        if not isinstance(found, dict):
            raise ValueError("not an object")
        return found

    @contextmanager
    def _parsing_names(self) -> Iterator[None]:
        """Turn errors of a damaged file into `BadRecord`."""
        try:
            yield
        except BadRecord:
            raise
        except (ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
            why = json_problem(error) if isinstance(error, (ValueError, RecursionError)) else "it has other values"
            raise BadRecord(
                self.names_path,
                f"not a list of the origins of names: {why}; `layerstore check --repair` puts it into quarantine",
            ) from None

    def set_image(self, image: ImageID, origin: Origin | None) -> None:
        """Write or remove the origin of an image.

        Raises:
            BadRecord: the others are lost.
            LayerStoreError: it is larger than what can be read again.
            OSError: it cannot be written.
        """
        path = self._images / image.hex
        if origin is None:
            inside.unlink(path, missing_ok=True)
            return
        data = encode(origin.document())
        if len(data) > _MAX_ORIGIN:
            raise LayerStoreError(
                f"what belongs to image {image} would take {len(data)} bytes; at most {_MAX_ORIGIN} are kept"
            )
        self._prepare()
        self._write(path, data)

    def set_names(self, names: Mapping[str, Mapping[ImageID, Origin]]) -> None:
        """Replace the origins of all names; errors as `set_image`, and `LayerStoreError` where there are too many.

        Write them before Docker's list of names. Until that has the new image of a name, the old origin counts: keep
        it next to the new one.
        """
        data, limit = encode_names(names), names_limit.MAX_NAMES
        if len(data) > limit:
            raise LayerStoreError(
                f"what belongs to the names of images would take {len(data)} bytes; at most {limit} are kept"
            )
        self._prepare()
        self._write(self.names_path, data)

    def set_annotations(self, image: ImageID, annotations: Mapping[str, str], *, name: str | None = None) -> None:
        """Set the annotations that the manifest of an image made here is to have.

        The manifest itself is made when the image is saved. Call this before the image gets its name. An image that
        came in with a manifest keeps it under its other names, and under its ID.

        Args:
            image: the image.
            annotations: all its annotations.
            name: the full name under which it is to have them; `None`: under its ID, and under names without an origin.

        Raises:
            BadRecord, OSError: as `set_image`.
        """
        origin = Origin(images={}, annotations=dict(annotations))
        before = self.of_image(image)
        if before is None or before.target is None:
            self.set_image(image, origin)
        if name is not None:
            names = self.names()
            self.set_names({**names, name: {**names.get(name, {}), image: origin}})

    def origin(self, image: ImageID, name: str | None = None) -> Origin | None:
        """Return the origin of an image under a name; without one, the image's own; errors as `of_image`."""
        found = None if name is None else self.of_name(name, image)
        return found if found is not None else self.of_image(image)

    # Collection and checks

    def origins(self) -> Iterator[tuple[Path, Origin]]:
        """Yield all origins, each with the file that has it; errors as `of_image`."""
        yield from self._of_images()
        for origins in self.names().values():
            for origin in origins.values():
                yield self.names_path, origin

    def _of_images(self) -> Iterator[tuple[Path, Origin]]:
        if lost := self.lost():
            raise lost
        for name in inside.names(self._images):
            if _IMAGE.fullmatch(name) and (origin := self.of_image(ImageID.from_hex(name))) is not None:
                yield self._images / name, origin

    def unreadable(self) -> list[BadRecord]:
        """Return the origins that cannot be read or are missing: they may list any document."""
        return self.survey().unreadable

    def lost(self) -> BadRecord | None:
        """Return an error if the origins are missing and are known to have existed."""
        # The note first: another process that keeps the first document here writes it last.
        if not inside.exists(self._note):
            return None
        if inside.is_directory(self._images) and inside.exists(self.names_path):
            return None
        missing = self.names_path if inside.is_directory(self._images) else self._images
        return BadRecord(
            missing,
            "what belongs to images (manifests, names for several platforms) is missing; restore it from a backup, or "
            f"remove {self._note} if there was nothing in it",
        )

    def forget(self, images: Collection[ImageID], names: Mapping[str, ImageID] | None, survey: Survey) -> None:
        """Remove the origins of images that are gone, and those of names that have another image now.

        Args:
            images: the images that exist.
            names: Docker's list of names; `None` where it is missing: then the origins of names stay as long as
                their images.
            survey: all origins, as `survey` has returned them since the image records were locked.

        Raises:
            BadRecord, OSError: as `set_image`.
        """
        for path in self._of_gone(images):
            inside.unlink(path, missing_ok=True)
        left = survey.valid_names(images, names)
        if left != survey.names:
            self.set_names(left)

    def unused(self, images: Collection[ImageID], names: Mapping[str, ImageID] | None, survey: Survey) -> list[Path]:
        """Return what is not needed: documents, origins of images that are gone, and files that were left half-done.

        None are returned while an origin cannot be read. Call `forget` before these files are removed.

        Args:
            images, names, survey: as for `forget`.
        """
        if survey.unreadable:
            return []
        try:
            found = self._of_gone(images)
        except (BadRecord, OSError):
            return []
        needed = survey.documents(images, names)
        for directory in (self.path, self._images, *(self.path / algorithm for algorithm in _ALGORITHMS)):
            documents = directory.name in _ALGORITHMS
            for name in inside.names(directory):
                if name.startswith(PARTIAL) or (
                    documents and _HEX.fullmatch(name) and f"{directory.name}:{name}" not in needed
                ):
                    found.append(directory / name)
        return found

    def sizes(self) -> dict[str, int]:
        """Return the size of each document in bytes, by digest; none of those that cannot be read."""
        found: dict[str, int] = {}
        for algorithm in _ALGORITHMS:
            try:
                with inside.Directory(self.path / algorithm) as directory:
                    for name in filter(_HEX.fullmatch, directory.names()):
                        with suppress(FileNotFoundError):
                            found[f"{algorithm}:{name}"] = directory.status(name).st_size
            except (BadRecord, OSError):  # `check` reports it
                continue
        return found

    def owners_of(self, path: Path) -> list[ImageID]:
        """Return the images whose origins, or whose names' origins, list a document; errors as `of_image`."""
        found: dict[ImageID, None] = {}
        for place, origin in self.origins():
            if any(self.path_of(digest) == path for digest in origin.documents):
                images = origin.images or ({ImageID.from_hex(place.name): ""} if place != self.names_path else {})
                found.update(dict.fromkeys(images))
        return list(found)

    def give_up(self, path: Path) -> None:
        """Remove a document that is missing from all origins, so that a new manifest is made without a warning.

        Raises:
            BadRecord, OSError: the origins cannot be read or written.
        """
        for place, origin in list(self._of_images()):
            if (left := self._given_up(origin, path)) != origin:
                self.set_image(ImageID.from_hex(place.name), left)
        names = self.names()
        changed = {
            name: {image: self._given_up(origin, path) for image, origin in origins.items()}
            for name, origins in names.items()
        }
        if changed != names:
            self.set_names(changed)

    def begin_anew(self) -> None:
        """Begin without origins, where they are lost or were put into quarantine."""
        inside.unlink(self._note, missing_ok=True)
        self._prepare()

    def _given_up(self, origin: Origin, path: Path) -> Origin:
        if all(self.path_of(digest) != path for digest in origin.documents):
            return origin
        return replace(
            origin,
            target=None if origin.digest is not None and self.path_of(origin.digest) == path else origin.target,
            referrers=tuple(one for one in origin.referrers if self.path_of(one.digest) != path),
            documents=tuple(digest for digest in origin.documents if self.path_of(digest) != path),
        )

    def _of_gone(self, images: Collection[ImageID]) -> list[Path]:
        """Return the origins of images that do not exist."""
        names = [name for name in inside.names(self._images) if _IMAGE.fullmatch(name)]
        return [self._images / name for name in names if ImageID.from_hex(name) not in images]

    def _prepare(self) -> None:
        """Make the directories, and note that they exist."""
        if lost := self.lost():
            raise lost
        if inside.exists(self._note):
            return
        make_directory(self._images, 0o700, durable=self._durable)
        if not inside.exists(self.names_path):
            self._write(self.names_path, b"{}\n")
        make_directory(self._note.parent, 0o700, durable=self._durable)
        inside.write(self._note, b"", FILE_MODE)
        if self._durable:
            inside.flush(self._note.parent)

    def _parse(self, path: Path, data: bytes) -> Origin:
        try:
            return Origin.of(json.loads(data))
        except (ValueError, RecursionError) as error:
            raise BadRecord(
                path,
                f"not the origin of an image: {json_problem(error)}; "
                "`layerstore check --repair` puts it into quarantine",
            ) from None

    def _write(self, path: Path, content: bytes, *, durable: bool = True) -> None:
        """Write a file and move it to its place, whole or not at all."""
        replace_file(path, content, durable=durable and self._durable)


def _bad(path: Path, error: BadRecord | OSError) -> BadRecord:
    return error if isinstance(error, BadRecord) else BadRecord(path, error.strerror or str(error))
