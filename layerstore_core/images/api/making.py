"""Making images of layers: the methods of `Images` for programs that build."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from layerstore_core.base.arguments import check_stream, check_type
from layerstore_core.images.api.base import OfStore
from layerstore_core.images.arguments import new_name
from layerstore_core.images.image import Image
from layerstore_core.store.registration.layer import Progress

if TYPE_CHECKING:
    from datetime import datetime

    from layerstore_core.images.config.options import ConfigOptions
    from layerstore_core.images.layer.builder import LayerBuilder


class Making(OfStore):
    """The methods of `Images` that make images."""

    def append(
        self,
        image: Image | str | None,
        sources: Sequence[str | os.PathLike[str] | tuple[str | os.PathLike[str], str]] | LayerBuilder,
        *,
        name: str | None = None,
        owner: str | tuple[int, int] | None = None,
        mode: int | None = None,
        mtime: str | datetime | int | None = None,
        config: ConfigOptions | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """Make an image of another one and one more layer. The same input and time give the same image.

        Args:
            image: the image, or its name or ID; `None` for none: the new image has this layer only.
            sources: files, directories and tars, each a path, or a path and the place in the image where it goes. A
                directory's content and a tar's entries go into the place, and a file to it, or into it if it is a
                directory. Instead of them, a layer that was built by a `LayerBuilder`.
            name: the name of the new image; if another image has it, it moves to the new one. `None` for none.
            owner: the owner of everything: two numbers, or `USER[:GROUP]` with numbers or names that the image knows.
            mode: permission bits of everything but symbolic links.
            mtime: time of everything: as `ConfigOptions.created`, or nanoseconds since 1970.
            config: changes to the config, and the time of the new image.
            progress: called now and then with the bytes and the entries of the layer so far.

        Returns:
            The new image, with its name.

        Raises:
            ImageDoesNotExist, LayerDoesNotExist: there is no such image, or a layer of it is missing.
            InvalidSource: a source or a place cannot be used; the store is unchanged.
            InvalidLayer: a tar is damaged; the store is unchanged.
            InvalidReference: `name` is not a valid name of an image.
            MaxDepthExceeded: the image has as many layers as the store allows.
            OSError: a source cannot be read or was changed meanwhile, or the system refuses; the store is unchanged.
        """
        from layerstore_core.images.make.append import append
        from layerstore_core.images.make.sources import parse_time

        found = self.get(image) if isinstance(image, str) else image
        if found is not None:
            check_type(found, Image, "an image, as get returns it, its name, or None")
        return append(
            self._store,
            found,
            sources,
            name=new_name(name),
            owner=owner,
            mode=mode,
            mtime_ns=None if mtime is None else parse_time(mtime),
            options=config,
            progress=progress,
        )

    def import_root(
        self,
        source: BinaryIO | str | os.PathLike[str],
        *,
        name: str | None = None,
        config: ConfigOptions | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """Make an image of one layer, which is a root file system.

        Args:
            source: a tar, compressed or not, as a path or a binary file object, whose bytes become the layer; or the
                path of a directory, whose files keep their owners.
            name: the name of the new image, as for `append`.
            config: changes to the config, which is empty but for the platform of this host.
            progress: as for `append`.

        Returns:
            The new image, with its name.

        Raises:
            InvalidSource, InvalidLayer: the source cannot be used; the store is unchanged.
            InvalidReference: `name` is not a valid name of an image.
            OSError: the source cannot be read, or the system refuses; the store is unchanged.
        """
        check_stream(source)
        from layerstore_core.images.make.append import import_root

        return import_root(self._store, source, name=new_name(name), options=config, progress=progress)

    def squash(
        self,
        image: Image | str,
        *,
        name: str | None = None,
        keep: int = 0,
        since: str | None = None,
        created: str | datetime | None = None,
        message: str = "",
        progress: Progress | None = None,
    ) -> Image:
        """Make an image whose upper layers, or all, are one layer. What they have deleted of each other is gone.

        The config stays as it is, but for its time. The steps of the squashed layers stay in the history, without
        layers; one more step has the new layer, as after `docker build --squash`. The same image and time give the same
        image.

        Args:
            image: the image, or its name or ID.
            name: the name of the new image, as for `append`.
            keep: how many lower layers stay.
            since: the lowest layer that is squashed, instead of `keep`: the first digits of its chain ID or diff ID.
            created: the time of the new image, as in `ConfigOptions`.
            message: a comment for the history.
            progress: as for `append`.

        Returns:
            The new image, with its name.

        Raises:
            ImageDoesNotExist, LayerDoesNotExist: there is no such image, or a layer of it is missing.
            IntegrityError: a layer is damaged; the store is unchanged.
            InvalidReference: `name` is not a valid name of an image.
            ValueError: there is no such layer, or none is left to squash.
            OSError: the system refuses; the store is unchanged.
        """
        from layerstore_core.images.make.squash import kept_below, squash

        found = self._image_of(image)
        check_type(keep, int, "how many layers stay, an int")
        if since is not None:
            check_type(since, str, "the first digits of a chain ID or diff ID, a str")
            if keep:
                raise ValueError("give either keep or since: both say which layers stay")
            keep = kept_below(found, since)
        return squash(
            self._store, found, keep, name=new_name(name), created=created, message=message, progress=progress
        )
