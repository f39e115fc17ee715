"""What images a container holds: docker-archives by their `manifest.json`, OCI layouts by their `index.json`.

Sources: the OCI image specification 1.1 (`image-layout.md`, `image-index.md`); moby, `image/tarexport`, for both
layouts of docker-archives. The newer one has the files of an OCI layout, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from layerstore_core.digests import DiffID, ImageID
from layerstore_core.errors import InvalidImage, InvalidReference
from layerstore_core.images.container import Container
from layerstore_core.images.documents import (
    Config,
    Descriptor,
    Platform,
    check_size,
    read_blob,
    read_config,
    read_json,
    read_json_blob,
)
from layerstore_core.images.reference import Reference
from layerstore_core.metadata.imagedb import MAX_CONFIG

#: Images that one archive may hold, and manifests that are looked at.
MAX_IMAGES: Final = 10_000
#: An index in an index in an index …
MAX_NESTING: Final = 8
#: containerd's annotation with an image's whole name.
NAME_ANNOTATION: Final = "io.containerd.image.name"
#: The specification's: often a tag alone.
REF_ANNOTATION: Final = "org.opencontainers.image.ref.name"

_INDEX_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_NAMED_BY_DIGEST = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A layer in a container.

    Attributes:
        path: where it is.
        diff_id: what its uncompressed tar has to be, by the config.
        descriptor: what an OCI manifest says of it; `None` in a docker-archive.
    """

    path: str
    diff_id: DiffID
    descriptor: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """An image in a container.

    Attributes:
        config: its config.
        layers: its layers, the base first.
        names: what it is called there.
        parent: the image that it was built from, where that is recorded and in the same archive.
    """

    config: Config
    layers: tuple[LayerFile, ...]
    names: tuple[Reference, ...] = ()
    parent: ImageID | None = None


def find_images(container: Container, platform: Platform | None = None) -> list[ImageFiles]:
    """The images in a container.

    Args:
        container: an archive or a layout.
        platform: which to take of an index with several; `None`: this host's, or the only one there is.

    Raises:
        InvalidImage: it holds none, or something is missing, damaged or contradictory.
    """
    if "manifest.json" in container and not (platform and "index.json" in container):
        images = _docker_archive(container)
    elif "index.json" in container:
        images = _oci_layout(container, platform)
    elif "repositories" in container:
        raise InvalidImage(
            f"{container.name}: an archive from before Docker 1.10, without manifest.json; load it into a newer Docker and save it again"
        )
    else:
        raise InvalidImage(f"{container.name}: no image: it has neither manifest.json nor index.json")
    if not images:
        raise InvalidImage(f"{container.name}: it holds no image")
    if platform is not None:
        for image in images:
            if not platform.takes(image.config.document):
                found = Platform(
                    *(str(image.config.document.get(key) or "") for key in ("os", "architecture", "variant"))
                )
                raise InvalidImage(f"{container.name}: image {image.config.image_id} is for {found}, not {platform}")
    _check_names(container, images)
    return images


def _docker_archive(container: Container) -> list[ImageFiles]:
    where = f"{container.name}: manifest.json"
    manifest = read_json(container, "manifest.json")
    if not isinstance(manifest, list) or not all(isinstance(item, dict) for item in manifest):
        raise InvalidImage(f"{where} is no list of images")
    if len(manifest) > MAX_IMAGES:
        raise InvalidImage(f"{where} names {len(manifest)} images; at most {MAX_IMAGES} are accepted")
    parents = {}
    images = []
    for item in manifest:
        config_path = item.get("Config")
        if not isinstance(config_path, str):
            raise InvalidImage(f"{where}: an image has no Config")
        config = read_config(container, config_path)
        named = _NAMED_BY_DIGEST.fullmatch(config_path)
        if named and named[1] != config.image_id.hex:
            raise InvalidImage(f"{container.name}: {config_path} is damaged: its digest is {config.image_id}")
        paths = _strings(item, "Layers", where)
        _check_count(container, config, len(paths))
        layers = tuple(LayerFile(path, diff_id) for path, diff_id in zip(paths, config.diff_ids, strict=True))
        for path in paths:
            container.size(path)
        names = tuple(_reference(name, where) for name in _strings(item, "RepoTags", where))
        if parent := item.get("Parent"):
            parents[config.image_id] = str(parent)
        images.append(ImageFiles(config, layers, names))
    known = {image.config.image_id for image in images}
    _check_parents(parents, where)
    return [
        ImageFiles(image.config, image.layers, image.names, _known(parents.get(image.config.image_id), known))
        for image in images
    ]


def _oci_layout(container: Container, platform: Platform | None) -> list[ImageFiles]:
    document = read_json(container, "index.json")
    if not isinstance(document, dict):
        raise InvalidImage(f"{container.name}: index.json is no JSON object")
    chosen = _choose(_manifests(document, f"{container.name}: index.json"), platform)
    if not chosen:
        raise InvalidImage(f"{container.name}: no image for {platform}")
    seen: list[int] = []
    images: dict[str, ImageFiles] = {}
    names: dict[str, list[Reference]] = {}
    for descriptor in chosen:
        manifest = _resolve_index(container, descriptor, platform, seen)
        if manifest.digest not in images:
            images[manifest.digest] = _image_of(container, manifest)
        names.setdefault(manifest.digest, []).extend(_names_of(descriptor, container))
    return [ImageFiles(found.config, found.layers, tuple(dict.fromkeys(names[key]))) for key, found in images.items()]


def _resolve_index(
    container: Container, descriptor: Descriptor, platform: Platform | None, seen: list[int]
) -> Descriptor:
    """The manifest that a descriptor leads to, perhaps through indexes of several platforms."""
    for _ in range(MAX_NESTING):
        if not _is_index(container, descriptor):
            return descriptor
        where = f"{container.name}: {descriptor.path}"
        offered = _manifests(read_json_blob(container, descriptor), where)
        seen.append(len(offered))
        if sum(seen) > MAX_IMAGES:
            raise InvalidImage(f"{container.name}: its indexes name more than {MAX_IMAGES} manifests")
        wanted = platform or Platform.of_this_host()
        found = [item for item in offered if item.platform is not None and wanted.takes(item.platform)]
        found = found or [item for item in offered if item.platform is None]
        if not found and platform is None and len(offered) == 1:
            found = offered
        if not found:
            there = ", ".join(_platform_text(item) for item in offered) or "none"
            raise InvalidImage(f"{where}: no image for {wanted}; there are: {there}. Choose with --platform")
        descriptor = found[0]
    raise InvalidImage(f"{container.name}: indexes are nested more than {MAX_NESTING} deep")


def _image_of(container: Container, descriptor: Descriptor) -> ImageFiles:
    where = f"{container.name}: {descriptor.path}"
    manifest = read_json_blob(container, descriptor)
    config_descriptor = Descriptor.of(manifest.get("config"), where)
    data = read_blob(container, config_descriptor, MAX_CONFIG)
    config = Config.parse(data, f"{container.name}: {config_descriptor.path}")
    listed = manifest.get("layers")
    if not isinstance(listed, list):
        raise InvalidImage(f"{where}: it has no list of layers")
    descriptors = [Descriptor.of(item, where) for item in listed]
    _check_count(container, config, len(descriptors))
    for layer in descriptors:
        if "encrypted" in layer.media_type:
            raise InvalidImage(f"{where}: layer {layer.digest} is encrypted; decrypt the image first")
        check_size(container, layer)
    layers = zip(descriptors, config.diff_ids, strict=True)
    return ImageFiles(config, tuple(LayerFile(layer.path, diff_id, layer) for layer, diff_id in layers))


def _manifests(index: Mapping[str, Any], where: str) -> list[Descriptor]:
    listed = index.get("manifests")
    if not isinstance(listed, list):
        raise InvalidImage(f"{where}: it has no list of manifests")
    if len(listed) > MAX_IMAGES:
        raise InvalidImage(f"{where}: it names {len(listed)} manifests; at most {MAX_IMAGES} are accepted")
    found = [Descriptor.of(item, where) for item in listed]
    # BuildKit puts what it attests of an image beside it, in manifests that are no images.
    return [item for item in found if "vnd.docker.reference.type" not in item.annotations]


def _choose(offered: list[Descriptor], platform: Platform | None) -> list[Descriptor]:
    """Of the outermost index: each name's image for the platform; what tells no platform is taken, too."""
    wanted = platform or Platform.of_this_host()
    fitting = [item for item in offered if item.platform is None or wanted.takes(item.platform)]
    if platform is None:
        # What is there for another platform only is still an image, and may have been asked for.
        names = {_name_key(item) for item in fitting}
        fitting += [item for item in offered if item.platform is not None and _name_key(item) not in names]
    return fitting


def _name_key(descriptor: Descriptor) -> str:
    found = descriptor.annotations.get(NAME_ANNOTATION) or descriptor.annotations.get(REF_ANNOTATION)
    return str(found or "")


def _is_index(container: Container, descriptor: Descriptor) -> bool:
    if descriptor.media_type:
        return descriptor.media_type in _INDEX_TYPES
    return "manifests" in read_json_blob(container, descriptor)


def _platform_text(descriptor: Descriptor) -> str:
    found = descriptor.platform or {}
    return str(Platform(*(str(found.get(key) or "") for key in ("os", "architecture", "variant")))) or "unknown"


def _names_of(descriptor: Descriptor, container: Container) -> list[Reference]:
    if name := descriptor.annotations.get(NAME_ANNOTATION):
        return [_reference(str(name), f"{container.name}: annotation {NAME_ANNOTATION}")]
    name = str(descriptor.annotations.get(REF_ANNOTATION) or "")
    # A bare word is a tag of some image: which, only the one who has written the layout knows.
    if ":" not in name and "/" not in name:
        return []
    try:
        return [Reference.parse(name)]
    except InvalidReference:  # the specification allows more than names of images
        return []


def _reference(name: str, where: str) -> Reference:
    try:
        return Reference.parse(name)
    except InvalidReference as error:
        raise InvalidImage(f"{where}: {error}") from None


def _strings(item: Mapping[str, Any], key: str, where: str) -> list[str]:
    found = item.get(key) or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise InvalidImage(f"{where}: {key} is no list of strings")
    return found


def _check_count(container: Container, config: Config, count: int) -> None:
    if count != len(config.diff_ids):
        raise InvalidImage(
            f"{container.name}: image {config.image_id} has {count} layers, but its config names {len(config.diff_ids)}"
        )


def _check_names(container: Container, images: list[ImageFiles]) -> None:
    owners: dict[Reference, ImageID] = {}
    for image in images:
        for name in image.names:
            if owners.setdefault(name, image.config.image_id) != image.config.image_id:
                raise InvalidImage(
                    f"{container.name}: two images are called {name}: {owners[name]} and {image.config.image_id}"
                )


def _check_parents(parents: Mapping[ImageID, str], where: str) -> None:
    for start in parents:
        seen, current = set(), str(start)
        while current in parents:
            if current in seen:
                raise InvalidImage(f"{where}: image {start} is its own ancestor")
            seen.add(current)
            current = parents[ImageID(current)]


def _known(parent: str | None, images: set[ImageID]) -> ImageID | None:
    return next((image for image in images if image == parent), None)
