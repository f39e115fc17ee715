"""Finding the images in a docker-archive, from its `manifest.json`.

Source: moby, `image/tarexport`. As in Skopeo and Podman, the names of configs and layers prove nothing. An image's ID
is the digest of its config's bytes. Its layers are verified by the diff IDs in the config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from layerstore_core.base.digests import ChainID, ImageID, chain_ids
from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidImage, InvalidReference
from layerstore_core.images.formats.container import TooMuch
from layerstore_core.images.formats.documents import Documents
from layerstore_core.images.formats.found import (
    MAX_IMAGES,
    MAX_NAMES,
    Candidate,
    ImageFiles,
    LayerFile,
    NotLoadable,
    Skipped,
)
from layerstore_core.images.formats.oci_layout import as_not_loadable, check_image
from layerstore_core.images.formats.platforms import Platform


def docker_images(documents: Documents, manifest: Any, skipped: list[Skipped]) -> list[Candidate]:
    """Find the images in a docker-archive.

    Args:
        documents: the documents of the archive.
        manifest: its `manifest.json`, parsed.
        skipped: invalid names of images are added here.

    Raises:
        InvalidImage: the manifest is not a list of images.
        TooMuch: it has too many images or names.
    """
    where = f"{documents.name}: manifest.json"
    if not isinstance(manifest, list):
        raise InvalidImage(f"{where} is not a list of images")
    if len(manifest) > MAX_IMAGES:
        raise TooMuch(f"{where} lists {len(manifest)} images; at most {MAX_IMAGES} are accepted")
    if sum(len(item["RepoTags"]) for item in manifest if _has_list(item, "RepoTags")) > MAX_NAMES:
        raise TooMuch(f"{where} has more than {MAX_NAMES} names of images")
    return [_candidate(documents, number, item, skipped) for number, item in enumerate(manifest, 1)]


def without_cycles(images: list[ImageFiles], skipped: list[Skipped]) -> list[ImageFiles]:
    """Remove parents that are not among the images, and parents that would make an image its own ancestor."""
    parents: dict[ImageID, ImageID | None] = {image.config.image_id: None for image in images}
    kept = []
    for image in images:
        image_id, parent = image.config.image_id, image.parent if image.parent in parents else None
        ancestor: ImageID | None = parent
        while ancestor is not None and ancestor != image_id:
            ancestor = parents[ancestor]
        if ancestor is not None:
            skipped.append(
                Skipped(image_id, "parent", f"the image would be its own ancestor, through its parent {parent}")
            )
            parent = None
        parents[image_id] = parent
        kept.append(replace(image, parent=parent))
    return kept


def _candidate(documents: Documents, number: int, item: Any, skipped: list[Skipped]) -> Candidate:
    """Read one entry of `manifest.json`."""
    what = f"image {number} in manifest.json"
    names: tuple[Reference, ...] = ()
    labels: set[str] = set()
    platform = None
    found: ImageFiles | NotLoadable
    try:
        if not isinstance(item, dict):
            raise InvalidImage(f"{documents.name}: the entry is not an object")
        names = tuple(_names(item.get("RepoTags"), skipped))
        what = ", ".join(map(str, names)) or what
        path = item.get("Config")
        if not isinstance(path, str):
            raise InvalidImage(f"{documents.name}: the entry has no Config")
        config = documents.config(path)
        labels.add(config.image_id)
        platform = Platform.from_document(config.document)
        paths = item.get("Layers") or []
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise InvalidImage(f"{documents.name}: the Layers are not a list of strings")
        files = ImageFiles(config, (), names, _image_id(item.get("Parent")))
        check_image(documents, config, len(paths))
        chains = chain_ids(config.diff_ids)
        layers = tuple(
            LayerFile(path, diff_id, present=_is_present(documents, path, chain))
            for path, diff_id, chain in zip(paths, config.diff_ids, chains, strict=True)
        )
        found = replace(files, layers=layers)
    except InvalidImage as error:
        found = as_not_loadable(error, documents)
    return Candidate(what, None, names, frozenset(labels), frozenset(), platform, found)


def _is_present(documents: Documents, path: str, chain: ChainID) -> bool:
    """Return whether a layer's file is there; a layer that the store has may be missing."""
    try:
        documents.container.size(path)
    except InvalidImage:
        if path in documents.container or not documents.has_layer(chain):
            raise
        return False
    return True


def _names(tags: Any, skipped: list[Skipped]) -> list[Reference]:
    names = []
    for tag in tags if isinstance(tags, list) else [tags] if tags else []:
        try:
            if not isinstance(tag, str):
                raise InvalidReference(f"{tag!r:.300} cannot name an image: it is not a string")
            names.append(Reference.parse(tag))
        except InvalidReference as error:
            skipped.append(Skipped(f"{tag:.300}" if isinstance(tag, str) else f"{tag!r:.300}", "name", str(error)))
    return names


def _image_id(text: object) -> ImageID | None:
    try:
        return ImageID(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _has_list(item: Any, key: str) -> bool:
    return isinstance(item, dict) and isinstance(item.get(key), list)
