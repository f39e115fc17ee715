"""Checks of the arguments of `Images`, with messages that say what is expected."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Final, Literal, cast

from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidReference
from layerstore_core.images.output import BinaryWriter

ImageFormat = Literal["docker", "oci", "dir"]

#: Reserved, as with Docker: `append scratch` and Dockerfiles mean no image by it.
_SCRATCH: Final = ("docker.io", "library/scratch")


def names_in(value: Sequence[str] | str) -> list[str]:
    """Return one name, or several names, as a list.

    Raises:
        TypeError: the value is neither.
    """
    names: list[object] = [value]
    if not isinstance(value, (str, bytes)):
        try:
            names = list(value)
        except TypeError:
            raise TypeError(f"images are given by a name, or a list of names, not {value!r}") from None
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"an image is given by its name or its ID, a str, not {name!r}")
    return cast("list[str]", names)


def new_name(name: str | None) -> Reference | None:
    """Return the name for a new image; `None` for none.

    Raises:
        InvalidReference: it is not a valid name, has a digest, or is reserved.
    """
    if name is None:
        return None
    reference = Reference.parse(name)
    if reference.digest:
        raise InvalidReference(f"{name!r} has a digest; use a name with a tag, such as app:1")
    check_not_reserved(reference)
    return reference


def check_not_reserved(name: Reference) -> None:
    """Check that a name is not reserved; an archive may bring such a name along, as with Docker.

    Raises:
        InvalidReference: it is.
    """
    if (name.domain, name.path) == _SCRATCH:
        raise InvalidReference(f"'{name}' is reserved: scratch means no image; use another name")


def check_form(form: str, *, images: int, all_platforms: bool, referrers: bool) -> None:
    """Check the name of a format for saved images, and that it has a place for what is to be saved.

    Args:
        form: the format.
        images: how many images and names there are.
        all_platforms: whether the images for all platforms are to be saved.
        referrers: whether referrers are to be saved.

    Raises:
        ValueError: the format is unknown, or has no place for that.
    """
    if form not in ("docker", "oci", "dir"):
        raise ValueError(f'the form of saved images is "docker", "oci" or "dir", not {form!r}')
    if form == "docker" and all_platforms:
        raise ValueError('an archive for Docker has one image for a name, not all platforms; use the format "oci"')
    if form != "oci" and referrers:
        raise ValueError(f'the format "{form}" has no place for referrers; use "oci"')
    if form == "dir" and images > 1:
        raise ValueError(f'the format "dir" has one image, not {images}; use "oci", or save them one by one')


def target_of(target: object) -> str | BinaryWriter:
    """Return the target of a save: a path as a `str`, or the file object.

    Raises:
        TypeError: the target is neither a path nor a binary file object.
    """
    if isinstance(target, (str, os.PathLike)):
        path = os.fspath(target)
        if isinstance(path, str):
            return path
    elif hasattr(target, "write") and not isinstance(target, io.TextIOBase):
        return cast("BinaryWriter", target)
    raise TypeError(f"images are saved to a path or a binary file object, not to {target!r}")
