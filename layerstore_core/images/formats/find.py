"""Which images of a container are to be loaded: the form that it has, what was asked for, and the platform.

What is no image for this system is left out, and told; it keeps nothing else from being loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from layerstore_core.base.digests import ImageID
from layerstore_core.errors import InvalidImage, InvalidReference
from layerstore_core.images.formats.container import Container, TooMuch
from layerstore_core.images.formats.docker_archive import docker_images, without_circles
from layerstore_core.images.formats.documents import Documents
from layerstore_core.images.formats.found import Candidate, Found, ImageFiles, NotTaken, Skipped
from layerstore_core.images.formats.oci_layout import layout_images
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.formats.skopeo_dir import SkopeoDirectory
from layerstore_core.images.reference import Reference

_SHOWN: Final = 10
_DIGEST = re.compile(r"(?:(sha256|sha512):)?([0-9a-f]{4,128})", re.ASCII)


def find_images(container: Container, platform: Platform | None = None, wanted: Sequence[str] = ()) -> Found:
    """Find the images in a container that are to be loaded.

    Args:
        container: an archive or a layout.
        platform: which to take of an image for several; `None`: this host's, or the only one there is.
        wanted: the images to take, by their names there, or by digests or IDs, which may be shortened to four digits;
            none: all of them.

    Raises:
        InvalidImage: it holds none, or what is wanted is not there, is no image, or is damaged.
    """
    skipped: list[Skipped] = []
    container = _oci_view(container)
    candidates = _candidates(container, skipped, platform is not None, bool(wanted))
    if not candidates:
        raise InvalidImage(f"{container.name}: it holds no image")
    if wanted:
        images: list[ImageFiles] = []
        skipped = []
        for name in wanted:
            left_out: list[Skipped] = []
            found = _chosen(_called(container, candidates, name), platform, left_out)
            if not found:
                raise nothing_left(container.name, left_out)
            images += found
    else:
        images = _chosen(candidates, platform, skipped)
        if not images:
            raise nothing_left(container.name, skipped)
    return Found(container, without_circles(_merged(images, skipped), skipped), skipped)


def every_image(container: Container) -> Found:
    """Find all images in a container that are sound, for whatever platform they are.

    Raises:
        InvalidImage: it holds none.
    """
    container = _oci_view(container)
    skipped: list[Skipped] = []
    candidates = _candidates(container, skipped, with_platform=False, every=True)
    images = [item.found for item in candidates if isinstance(item.found, ImageFiles)]
    if not images:
        raise nothing_left(
            container.name,
            [
                Skipped(item.what, item.found.kind, str(item.found))
                for item in candidates
                if isinstance(item.found, NotTaken)
            ],
        )
    return Found(container, images, skipped)


def nothing_left(where: str, skipped: Sequence[Skipped]) -> InvalidImage:
    """The error for a container of which nothing can be loaded.

    Args:
        where: what to call it.
        skipped: what is in it, and why each is left out.
    """
    if not skipped:
        return InvalidImage(f"{where}: it holds no image")
    what = [item for item in skipped if item.kind not in ("attestation", "name", "parent")] or list(skipped)
    reasons = [f"{item.what}: {item.reason}" for item in what]
    if len(reasons) == 1:
        return InvalidImage(f"{where}: {reasons[0]}")
    more = [f"and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
    return InvalidImage(f"{where}: none of it can be loaded: {'; '.join([*reasons[:_SHOWN], *more])}")


def _oci_view(container: Container) -> Container:
    """The container, or if it is a `dir:` layout of Skopeo, a view of it as an OCI layout."""
    if "manifest.json" in container and "index.json" not in container:
        with container.open("manifest.json") as file:
            start = file.read(1024)
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return SkopeoDirectory(container)
    return container


def _candidates(container: Container, skipped: list[Skipped], with_platform: bool, every: bool) -> list[Candidate]:
    documents = Documents(container)
    if isinstance(container, SkopeoDirectory):
        return layout_images(documents, container.index, skipped, "manifest.json")
    forms = [form for form in ("manifest.json", "index.json") if form in container]
    if with_platform:  # an index may have more than the one image that Docker names
        forms.reverse()
    if not forms and "repositories" in container:
        raise InvalidImage(
            f"{container.name}: an archive from before Docker 1.10, without manifest.json; load it into a newer Docker and save it again"
        )
    if not forms:
        raise InvalidImage(f"{container.name}: no image: it has neither manifest.json nor index.json")
    found: list[Candidate] = []
    damaged: list[InvalidImage] = []
    for form in forms:
        told: list[Skipped] = []
        try:
            images = (docker_images if form == "manifest.json" else layout_images)(
                documents, documents.json(form), told
            )
        except TooMuch:
            raise
        except InvalidImage as error:
            damaged.append(error)
            skipped.append(Skipped(form, "invalid", str(error).removeprefix(f"{container.name}: ")))
            continue
        if not found:  # names that cannot be images' names are told once
            skipped += told
        found += images
        if not every and any(isinstance(item.found, ImageFiles) for item in images):
            break
    if damaged and not found:
        raise damaged[0]
    return found


def _called(container: Container, candidates: Sequence[Candidate], name: str) -> list[Candidate]:
    """The candidates that are called so, as one group unless it is one of a group that is meant."""
    try:
        reference = Reference.parse(name)
    except InvalidReference:
        reference = None
    named = [item for item in candidates if reference in item.names or name in item.group_labels]
    if named:
        names = (reference,) if reference is not None and any(reference in item.names for item in named) else None
        return [replace(item, names=item.names if names is None else names) for item in named]
    if match := _DIGEST.fullmatch(name):
        algorithm, digits = match.groups()

        def called(label: str) -> bool:
            start, _, rest = label.partition(":")
            return rest.startswith(digits) and algorithm in (None, start)

        # An image has a digest of its manifest and one of its config, and may be there in two forms; an index has its own.
        images = [item for item in candidates if any(map(called, item.labels))]
        indexes = [item for item in candidates if item not in images and any(map(called, item.group_labels))]
        if len({_identity(item) for item in images} | {str(item.group) for item in indexes}) > 1:
            labels = {label for item in candidates for label in item.labels | item.group_labels if called(label)}
            raise InvalidImage(
                f"{container.name}: {name!r} may be any of these; give more digits: {', '.join(sorted(labels)[:_SHOWN])}"
            )
        if images or indexes:
            return [replace(item, group=None) for item in images] + indexes
    there = list(dict.fromkeys(str(label) for item in candidates for label in item.names or sorted(item.labels)))
    more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    raise InvalidImage(f"{container.name}: there is no image {name!r}; there are: {', '.join(there[:_SHOWN])}{more}")


def _identity(item: Candidate) -> str:
    return item.found.config.image_id if isinstance(item.found, ImageFiles) else min(item.labels, default=item.what)


def _chosen(candidates: Sequence[Candidate], platform: Platform | None, skipped: list[Skipped]) -> list[ImageFiles]:
    """Of each group the image for the platform."""
    groups: dict[object, list[Candidate]] = {}
    for number, item in enumerate(candidates):
        groups.setdefault(number if item.group is None else item.group, []).append(item)
    return [image for group in groups.values() for image in _best(group, platform, skipped)]


def _best(group: list[Candidate], platform: Platform | None, skipped: list[Skipped]) -> list[ImageFiles]:
    good: list[tuple[Candidate, ImageFiles]] = []
    for item in group:
        if isinstance(item.found, ImageFiles):
            good.append((item, replace(item.found, names=item.names)))
        else:
            skipped.append(Skipped(item.what, item.found.kind, str(item.found)))
    asked = platform or Platform.of_this_host()
    ranks = [None if item.platform is None else asked.rank(item.platform) for item, _ in good]
    fitting = [rank for rank in ranks if rank is not None]
    # Entries of the outermost index that have no names are images of their own.
    several = group[0].group == ""
    if fitting:
        best = min(fitting)
        taken = [rank == best and (several or best not in ranks[:number]) for number, rank in enumerate(ranks)]
    elif platform is None:
        # What is there for another platform only is still an image; what tells no platform may be for this one.
        silent = [item.platform is None for item, _ in good]
        if not any(silent):
            silent = [len(good) == 1 or several] * len(good)
        taken = silent if several else [found and not any(silent[:number]) for number, found in enumerate(silent)]
    else:
        taken = [False] * len(good)
    there = ", ".join(str(item.platform or "unknown") for item, _ in good)
    images = [image for (_, image), take in zip(good, taken, strict=True) if take]
    found = {image.config.image_id for image in images}
    for item, image in good:
        if image.config.image_id in found:  # perhaps by another entry
            continue
        for_what = item.platform or "an unknown platform"
        if images:
            reason = f"the image is for {for_what}; another one is taken"
        elif len(good) == 1:
            reason = f"the image is for {for_what}, not {asked}: no image for {asked}"
        else:
            reason = f"the image is for {for_what}: no image for {asked}; there are: {there}. Choose with --platform"
        what = item.what if len(group) == 1 else f"{item.what} ({image.config.image_id})"
        skipped.append(Skipped(what, "platform", reason))
    return images


def _merged(images: Sequence[ImageFiles], skipped: list[Skipped]) -> list[ImageFiles]:
    """Each image once, with all its names; where two have one name, the last has it, as with Docker."""
    owners: dict[Reference, ImageID] = {}
    merged: dict[ImageID, ImageFiles] = {}
    for image in images:
        image_id = image.config.image_id
        for name in image.names:
            if owners.setdefault(name, image_id) != image_id:
                skipped.append(
                    Skipped(str(name), "name", f"image {owners[name]} goes without it: image {image_id} has it as well")
                )
                owners[name] = image_id
        merged.setdefault(image_id, image)
    names: dict[ImageID, list[Reference]] = {}
    for name, owner in owners.items():
        names.setdefault(owner, []).append(name)
    return [replace(image, names=tuple(names.get(image_id, ()))) for image_id, image in merged.items()]
