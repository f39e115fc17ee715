"""Making images from what the store has: the methods of `Images` for writable layers, configs and bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from layerstore_core.base.arguments import check_type
from layerstore_core.base.digests import ChainID
from layerstore_core.images.api.base import OfStore
from layerstore_core.images.arguments import new_name
from layerstore_core.images.image import Image
from layerstore_core.store.handles import RWLayer
from layerstore_core.store.registration.layer import Progress

if TYPE_CHECKING:
    from layerstore_core.images.config.model import ImageConfig
    from layerstore_core.images.config.options import ConfigOptions
    from layerstore_core.images.make.configure import LayerSource


class Deriving(OfStore):
    """The methods of `Images` that make images from what the store has."""

    def create_rw_layer(
        self,
        name: str,
        image: Image | str,
        *,
        mount_label: str = "",
        storage_opt: Mapping[str, str] | None = None,
    ) -> RWLayer:
        """Create a writable layer on an image, and record that it is of this image: `commit` continues from it.

        Args:
            name: its name; other arguments and errors as for `LayerStore.create_rw_layer`.
            image: the image, or its name or ID.
            mount_label: an SELinux label.
            storage_opt: the driver's options for this layer.

        Raises:
            ImageDoesNotExist: there is no such image.
        """
        found = self._image_of(image)
        parent = found.chain_id or ""
        return self._store.create_rw_layer(
            name, parent, mount_label=mount_label, storage_opt=storage_opt, image=found.image_id
        )

    def commit(
        self,
        rw: RWLayer,
        name: str | None,
        *,
        config: ConfigOptions | ImageConfig | None = None,
        base: Image | str | None = None,
        mtime: str | datetime | int | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """Make an image from a writable layer: the image that it was created from, and its changes as one more layer.

        Without changes there is no new layer, only a step in the history. The writable layer stays as it is. It may be
        mounted, but nothing may write to it meanwhile.

        Args:
            rw: a handle to the writable layer.
            name: the new image's name; `None` for none. If another image has it, it moves to the new one.
            config: changes to the base image's config; or the new config, which has to name the base image's layers.
            base: the image that the writable layer was created from. With `None` it is the one that was recorded, or
                the only one with this topmost layer; if there is none, the new image has the chain's layers, and a
                config without anything else.
            mtime: the time of everything in the new layer: as `ConfigOptions.created`, or nanoseconds since 1970.
                `None` for the files' own times.
            progress: called now and then with the bytes and entries of the new layer so far.

        Raises:
            RWLayerInUse: it was written to meanwhile; the store is unchanged.
            ImageDoesNotExist: there is no such base, or there are several; the message lists them.
            InvalidImage: the base has other layers, or its config or the given one cannot be used.
            InvalidReference: `name` is not a valid name of an image.
            MaxDepthExceeded: the chain is as long as it may be.
            OSError, LayerStoreError: as `LayerStore.register`; the store is unchanged.
        """
        from layerstore_core.images.make import commit as making
        from layerstore_core.images.make.sources import parse_time

        check_type(rw, RWLayer, "a handle to a writable layer, as create_rw_layer and get_rw_layer give it")
        reference = new_name(name)
        if base is None:
            found = making.base_of(self._store, rw, self.get)
        else:
            found = self._image_of(base)
            making.check_base(rw, found)
        mtime_ns = None if mtime is None else parse_time(mtime)
        return making.commit(
            self._store, rw, reference, config=config, base=found, mtime_ns=mtime_ns, progress=progress
        )

    def configure(self, image: Image | str, name: str | None, options: ConfigOptions) -> Image:
        """Make an image with the same layers and another config. No layer is read.

        Args:
            image: the image, or its name or ID.
            name: the new image's name; `None` for none. If another image has it, it moves to the new one.
            options: the changes.

        Raises:
            ImageDoesNotExist: there is no such image.
            LayerDoesNotExist: its layers are missing.
            InvalidImage: its config cannot be changed.
            InvalidReference: `name` is not a valid name of an image.
            OSError: it cannot be recorded; the store is unchanged.
        """
        from layerstore_core.images.config.options import ConfigOptions as Options
        from layerstore_core.images.make import configure as making

        check_type(options, Options, "ConfigOptions")
        return making.configure(self._store, self._image_of(image), new_name(name), options)

    def create(
        self, layers: Sequence[LayerSource], config: ImageConfig | None = None, *, name: str | None = None
    ) -> Image:
        """Make an image of layers.

        Args:
            layers: handles, chain IDs, or tars, which are registered; the base first. The first brings its parents
                along. A layer that is not on the one before it is registered there, too.
            config: the config, which is not changed; its layers are replaced by these, and layers without a step in its
                history get one. `None`: one for this machine that says nothing else.
            name: the image's name; `None` for none. If another image has it, it moves to the new one.

        Raises:
            LayerDoesNotExist: a layer is missing.
            InvalidLayer: a tar is not a layer.
            InvalidImage: the config cannot be used.
            InvalidReference: `name` is not a valid name of an image.
            OSError: it cannot be recorded. The store is unchanged in each of these cases.
        """
        from layerstore_core.images.make import configure as making

        if isinstance(layers, (str, bytes)):
            raise TypeError(f"the layers of an image are a list, not {layers!r}")
        return making.create(self._store, layers, config, new_name(name))

    def rebase(
        self,
        image: Image | str,
        old: Image | ChainID | str,
        new: Image | ChainID | str,
        name: str | None,
        *,
        created: str | datetime | None = None,
    ) -> Image:
        """Make an image with the layers that an image has above one base, on another base.

        Values of the config that the image has unchanged from its old base follow the new base; what it has set,
        changed or removed stays so. The history is the new base's, and the image's own steps.

        Args:
            image: the image, or its name or ID.
            old: its base: an image, its name or ID, or the chain ID of a layer.
            new: the new base, likewise.
            name: the new image's name; `None` for none. If another image has it, it moves to the new one.
            created: the new image's time; see `creation_time`.

        Raises:
            InvalidImage: `old` is no base of the image, or `new` is for another platform; the message says why.
            ImageDoesNotExist, LayerDoesNotExist: one of them is missing.
            InvalidReference: `name` is not a valid name of an image.
            MaxDepthExceeded: there would be too many layers.
            OSError: it cannot be recorded; the store is unchanged.
        """
        from layerstore_core.images.make import rebase as making

        before, after = (base if isinstance(base, ChainID) else self._image_of(base) for base in (old, new))
        return making.rebase(self._store, self._image_of(image), before, after, name=new_name(name), created=created)
