"""Finding the images to load in a container: detect its format, then choose by name and platform.

An item that is not an image for this system is skipped and listed. The other images can still be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from layerstore_core.base.digests import ChainID, ImageID
from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidImage, InvalidReference
from layerstore_core.images.formats.container import Container, TooMuch
from layerstore_core.images.formats.docker_archive import docker_images, without_cycles
from layerstore_core.images.formats.documents import Documents
from layerstore_core.images.formats.found import Candidate, FoundImages, ImageFiles, ImageGroup, NotLoadable, Skipped
from layerstore_core.images.formats.oci_layout import layout_images
from layerstore_core.images.formats.platforms import Platform, listed
from layerstore_core.images.formats.skopeo_dir import SkopeoDirectory

_SHOWN: Final = 10
_DIGEST = re.compile(r"(?:(sha256|sha512):)?([0-9a-f]{4,128})", re.ASCII)


def find_images(
    container: Container,
    platform: Platform | None = None,
    wanted: Sequence[str] = (),
    *,
    all_platforms: bool = False,
    has_layer: Callable[[ChainID], bool] = lambda _: False,
) -> FoundImages:
    """Find the images in a container that are to be loaded.

    Args:
        container: an archive or a layout.
        platform: the platform to load from a multi-platform image. With `None` it is this host's platform, or the
            only one that the image has.
        wanted: the images to load, by their names in the container, or by digests or IDs, which may be shortened to
            four digits; if empty, all.
        all_platforms: find the images of a multi-platform image for all platforms; `platform` says which is the first.
        has_layer: returns whether the store has a layer, which the container may then lack.

    Raises:
        InvalidImage: the container has no image to load, or a wanted item is missing, damaged or not an image.
    """
    skipped: list[Skipped] = []
    container = _oci_view(container)
    documents = Documents(container, has_layer)
    candidates = _candidates(documents, skipped, platform is not None or all_platforms, bool(wanted))
    if not candidates:
        raise InvalidImage(f"{container.name}: it contains no image")
    if wanted:
        groups: list[ImageGroup] = []
        skipped = []
        for name in wanted:
            not_chosen: list[Skipped] = []
            found = _choose(_matching(container, candidates, name), platform, not_chosen, all_platforms)
            if not found:
                raise nothing_to_load(container.name, not_chosen)
            groups += found
    else:
        groups = _choose(candidates, platform, skipped, all_platforms)
        if not groups:
            raise nothing_to_load(container.name, skipped)
    images, groups = _merge(groups, skipped)
    return FoundImages(container, without_cycles(images, skipped), skipped, groups)


def every_image(container: Container) -> FoundImages:
    """Find all undamaged images in a container, for any platform.

    Raises:
        InvalidImage: there is no such image.
    """
    container = _oci_view(container)
    skipped: list[Skipped] = []
    candidates = _candidates(Documents(container), skipped, with_platform=False, every=True)
    images = [item.found for item in candidates if isinstance(item.found, ImageFiles)]
    if not images:
        raise nothing_to_load(
            container.name,
            [
                Skipped(item.what, item.found.kind, str(item.found))
                for item in candidates
                if isinstance(item.found, NotLoadable)
            ],
        )
    return FoundImages(container, images, skipped, [ImageGroup((image,), image.names) for image in images])


def named(found: FoundImages, name: Reference | None) -> FoundImages:
    """Return the images with another name, or without names.

    Raises:
        InvalidImage: there are several images for the name.
    """
    groups = {tuple(image.config.image_id for image in group.images): group for group in found.groups}
    if name is not None and len(groups) > 1:
        raise InvalidImage(
            f"{found.container.name}: it contains {len(found.images)} images, which cannot all be named {name}; "
            "choose one of them (--image)"
        )
    names = () if name is None else (name,)
    first = found.groups[0].images[0].config.image_id
    return replace(
        found,
        images=[replace(one, names=names if one.config.image_id == first else ()) for one in found.images],
        groups=[replace(group, names=names) for group in groups.values()],
    )


def nothing_to_load(where: str, skipped: Sequence[Skipped]) -> InvalidImage:
    """Return the error for a container from which no image can be loaded.

    Args:
        where: the name of the container.
        skipped: the items in it, and why each is skipped.
    """
    if not skipped:
        return InvalidImage(f"{where}: it contains no image")
    items = [item for item in skipped if item.kind not in ("attestation", "name", "parent")] or list(skipped)
    reasons = [f"{item.what}: {item.reason}" for item in items]
    if len(reasons) == 1:
        return InvalidImage(reasons[0] if items[0].what == where else f"{where}: {reasons[0]}")
    more = [f"and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
    return InvalidImage(f"{where}: no image in it can be loaded: {'; '.join([*reasons[:_SHOWN], *more])}")


def _oci_view(container: Container) -> Container:
    """Return the container; if it is a `dir:` layout of Skopeo, return a view of it as an OCI layout."""
    if "manifest.json" in container and "index.json" not in container:
        with container.open("manifest.json") as file:
            start = file.read(1024)
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return SkopeoDirectory(container)
    return container


def _candidates(documents: Documents, skipped: list[Skipped], with_platform: bool, every: bool) -> list[Candidate]:
    """Read the container's list of images.

    Some containers have two lists: `manifest.json` of Docker and `index.json` of OCI.

    Args:
        documents: the documents of the container.
        skipped: damaged lists and invalid names are added here.
        with_platform: whether a platform was asked for; then `index.json` is read first.
        every: whether to read both lists; otherwise the second is read only if the first has no image.
    """
    container = documents.container
    if isinstance(container, SkopeoDirectory):
        return layout_images(documents, container.index, skipped, "manifest.json")
    forms = [form for form in ("manifest.json", "index.json") if form in container]
    if with_platform:  # an index may list images for more platforms than Docker's manifest
        forms.reverse()
    if not forms and "repositories" in container:
        raise InvalidImage(
            f"{container.name}: an archive from before Docker 1.10, without manifest.json; "
            "load it into a newer Docker and save it again"
        )
    if not forms:
        raise InvalidImage(f"{container.name}: it contains no image: it has neither manifest.json nor index.json")
    found: list[Candidate] = []
    damaged: list[InvalidImage] = []
    for form in forms:
        bad_names: list[Skipped] = []
        try:
            images = (docker_images if form == "manifest.json" else layout_images)(
                documents, documents.json(form), bad_names
            )
        except TooMuch:
            raise
        except InvalidImage as error:
            damaged.append(error)
            skipped.append(Skipped(form, "invalid", str(error).removeprefix(f"{container.name}: ")))
            continue
        if not found:  # both lists may have the same invalid names: list them once
            skipped += bad_names
        found += images
        if not every and any(isinstance(item.found, ImageFiles) for item in images):
            if form == "manifest.json" and "index.json" in container:
                found = _with_manifests(documents, found)
            break
    if damaged and not found:
        raise damaged[0]
    return found


def _with_manifests(documents: Documents, candidates: list[Candidate]) -> list[Candidate]:
    """Add the manifests of `index.json` to images from Docker's `manifest.json`, where both name the same files."""
    documents = Documents(documents.container, documents.has_layer)  # with limits of its own
    try:
        listed = layout_images(documents, documents.json("index.json"), [])
    except InvalidImage:  # Docker's list is enough
        return candidates
    by_id = {one.found.config.image_id: one.found for one in listed if isinstance(one.found, ImageFiles)}
    found = []
    for item in candidates:
        other = by_id.get(item.found.config.image_id) if isinstance(item.found, ImageFiles) else None
        if isinstance(item.found, ImageFiles) and other is not None:
            same = [layer.path for layer in item.found.layers] == [layer.path for layer in other.layers]
            if same:
                item = replace(item, found=replace(item.found, layers=other.layers, source=other.source))
        found.append(item)
    return found


def _matching(container: Container, candidates: Sequence[Candidate], name: str) -> list[Candidate]:
    """Return the candidates with a name, a digest or an ID.

    They keep their group, from which the platform chooses. A candidate that is meant by its own digest is taken out
    of its group.
    """
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

        def matches(label: str) -> bool:
            start, _, rest = label.partition(":")
            return rest.startswith(digits) and algorithm in (None, start)

        # An image has two digests, of its manifest and of its config, and may be listed twice. An index has its own.
        images = [item for item in candidates if any(map(matches, item.labels))]
        indexes = [item for item in candidates if item not in images and any(map(matches, item.group_labels))]
        if len({_identity(item) for item in images} | {str(item.group) for item in indexes}) > 1:
            labels = {label for item in candidates for label in item.labels | item.group_labels if matches(label)}
            raise InvalidImage(
                f"{container.name}: {name!r} is ambiguous; give more digits. It may be "
                f"{', '.join(sorted(labels)[:_SHOWN])}"
            )
        if images or indexes:
            return [replace(item, group=None) for item in images] + indexes
    known = list(dict.fromkeys(str(label) for item in candidates for label in item.names or sorted(item.labels)))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    raise InvalidImage(f"{container.name}: there is no image {name!r}; there are: {', '.join(known[:_SHOWN])}{more}")


def _identity(item: Candidate) -> str:
    """Return the image's ID; for a candidate that cannot be loaded, one of its digests or its name."""
    return item.found.config.image_id if isinstance(item.found, ImageFiles) else min(item.labels, default=item.what)


def _choose(
    candidates: Sequence[Candidate], platform: Platform | None, skipped: list[Skipped], all_platforms: bool
) -> list[ImageGroup]:
    """Return the image for the platform from each group, or the images for all platforms."""
    groups: dict[object, list[Candidate]] = {}
    for number, item in enumerate(candidates):
        groups.setdefault(number if item.group is None else item.group, []).append(item)
    return [chosen for group in groups.values() for chosen in _choose_in_group(group, platform, skipped, all_platforms)]


def _choose_in_group(
    group: list[Candidate], platform: Platform | None, skipped: list[Skipped], all_platforms: bool
) -> list[ImageGroup]:
    """Return the images of a group that run best on the platform; add the others to `skipped`."""
    loadable: list[tuple[Candidate, ImageFiles]] = []
    for item in group:
        if isinstance(item.found, ImageFiles):
            loadable.append((item, replace(item.found, names=item.names)))
        else:
            digest = next(iter(item.labels)) if len(item.labels) == 1 else ""
            skipped.append(Skipped(item.what, item.found.kind, str(item.found), digest))
    target = platform or Platform.of_this_host()
    ranks = [None if item.platform is None else target.rank(item.platform) for item, _ in loadable]
    # Entries of the outermost index that have no names are separate images: several of them may be loaded.
    several = group[0].group == ""
    distinct = len({str(item.platform) for item, _ in loadable}) == len(loadable)
    if all_platforms and loadable and (distinct or not several):
        order = sorted(range(len(loadable)), key=lambda number: (ranks[number] is None, ranks[number] or 0, number))
        chosen_images = {loadable[number][1].config.image_id: loadable[number][1] for number in order}
        return [ImageGroup(tuple(chosen_images.values()), loadable[0][0].names)]
    fitting = [rank for rank in ranks if rank is not None]
    if all_platforms:
        chosen = [True] * len(loadable)
    elif fitting:
        best = min(fitting)
        chosen = [rank == best and (several or best not in ranks[:number]) for number, rank in enumerate(ranks)]
    elif platform is None:
        # An image without a platform may be for this one. If every image has one, load the only image all the same.
        eligible = [item.platform is None for item, _ in loadable]
        if not any(eligible):
            eligible = [len(loadable) == 1 or several] * len(loadable)
        chosen = eligible if several else [ok and not any(eligible[:number]) for number, ok in enumerate(eligible)]
    else:
        chosen = [False] * len(loadable)
    platforms = listed(item.platform for item, _ in loadable)
    images = [image for (_, image), is_chosen in zip(loadable, chosen, strict=True) if is_chosen]
    found = {image.config.image_id for image in images}
    for item, image in loadable:
        if image.config.image_id in found:  # another entry may list the same image
            continue
        own = item.platform or "an unknown platform"
        if images:
            reason = f"the image is for {own}; the one for this platform is loaded"
        elif len(loadable) == 1:
            reason = f"the image is for {own}, not {target}: no image for {target}"
        else:
            reason = f"the image is for {own}: no image for {target}; there are: {platforms}. Choose with --platform"
        what = item.what if len(group) == 1 else f"{item.what} ({image.config.image_id})"
        skipped.append(Skipped(what, "platform", reason))
    return [ImageGroup((image,), image.names) for image in images]


def _merge(groups: Sequence[ImageGroup], skipped: list[Skipped]) -> tuple[list[ImageFiles], list[ImageGroup]]:
    """Return each image once, with the names that it gets, and the groups with their names.

    If two groups have one name, the last gets it, as with Docker.
    """
    owners: dict[Reference, int] = {}
    firsts = [group.images[0].config.image_id for group in groups]
    for number, group in enumerate(groups):
        for name in group.names:
            before = owners.get(name)
            if before is not None and firsts[before] != firsts[number]:
                skipped.append(
                    Skipped(
                        str(name),
                        "name",
                        f"image {firsts[before]} is loaded without this name: image {firsts[number]} has it too",
                    )
                )
            if before is None or firsts[before] != firsts[number] or len(group.images) > len(groups[before].images):
                owners[name] = number
    names: dict[ImageID, list[Reference]] = {}
    for name, number in owners.items():
        names.setdefault(firsts[number], []).append(name)
    merged: dict[ImageID, ImageFiles] = {}
    for group in groups:
        for image in group.images:
            merged.setdefault(image.config.image_id, image)
    images = [replace(image, names=tuple(names.get(image_id, ()))) for image_id, image in merged.items()]
    kept = [
        replace(group, names=tuple(dict.fromkeys(name for name in group.names if owners[name] == number)))
        for number, group in enumerate(groups)
    ]
    return images, kept
