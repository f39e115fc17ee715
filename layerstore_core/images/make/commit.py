"""Making an image from a writable layer."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from layerstore_core.base.digests import chain_ids
from layerstore_core.base.reference import Reference
from layerstore_core.errors import ImageDoesNotExist, InvalidImage
from layerstore_core.images.config.created import creation_time
from layerstore_core.images.config.options import ConfigOptions
from layerstore_core.images.image import Image
from layerstore_core.images.layer.builder import LayerBuilder
from layerstore_core.images.make.record import finish_image
from layerstore_core.images.make.rw_changes import buffered, open_changes
from layerstore_core.log import logger
from layerstore_core.store.handles import Layer, RWLayer
from layerstore_core.store.registration.layer import Progress
from layerstore_core.store.store import LayerStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerstore_core.images.config.model import ImageConfig

_SHOWN = 10


def commit(
    store: LayerStore,
    rw: RWLayer,
    name: Reference | None,
    *,
    config: ImageConfig | ConfigOptions | None,
    base: Image | None,
    mtime_ns: int | None,
    progress: Progress | None,
) -> Image:
    """Make an image from a writable layer; see `Images.commit`.

    Args:
        store: an open store.
        rw: a handle to the writable layer.
        name: the new image's name; `None` for none.
        config: its config, or changes to the base image's.
        base: the image that the writable layer was made from; `None` for a bare chain of layers.
        mtime_ns: the time of everything in the new layer, in nanoseconds since 1970; `None` for the files' own times.
        progress: called now and then with the bytes and entries of the new layer so far.
    """
    from layerstore_core.images.config.model import ImageConfig

    options = config if isinstance(config, ConfigOptions) else ConfigOptions()
    if isinstance(config, ImageConfig):
        new = config.model_copy(deep=True)
        if not new.created:
            new.created = creation_time()
    else:
        new = ImageConfig.scratch() if base is None else ImageConfig.of_base(base.config)
        options.apply(new)
    _complete_layers(new, rw.parent, given=isinstance(config, ImageConfig) or base is not None)
    layer, top = _register(store, rw, mtime_ns, progress)
    return finish_image(
        store,
        new,
        layer,
        top,
        base=base,
        parent=None if base is None else base.image_id,
        name=name,
        created_by="layerstore commit",
        options=options,
    )


def base_of(store: LayerStore, rw: RWLayer, get: Callable[[str], Image]) -> Image | None:
    """Return the image that a writable layer was created from; `None` if it was created from bare layers.

    That is the image that was recorded then; if there is none, or it is gone, the only image with this topmost layer.

    Args:
        store: an open store.
        rw: a handle to the writable layer.
        get: returns an image by its ID.

    Raises:
        ImageDoesNotExist: there are several, and the message lists them.
    """
    if rw.parent is None:
        return None
    top = rw.parent.chain_id
    recorded = rw.image_id
    if recorded is not None:
        try:
            image = get(recorded)
            if image.chain_id == top:
                return image
        except ImageDoesNotExist:
            logger.warning("image {}, from which {!r} was created, is gone", recorded, rw.name)
    found = sorted(store.context.image_db.references().tops.get(top, ()))
    if len(found) > 1:
        shown = ", ".join(map(str, found[:_SHOWN])) + (" …" if len(found) > _SHOWN else "")
        raise ImageDoesNotExist(
            f"which image the writable layer {rw.name!r} was created from is not recorded, and several have its parent "
            f"as their topmost layer: {shown}; say which one (--base)"
        )
    return get(found[0]) if found else None


def check_base(rw: RWLayer, base: Image) -> None:
    """Check that a writable layer is on an image's topmost layer.

    Raises:
        InvalidImage: it is not.
    """
    top = None if rw.parent is None else rw.parent.chain_id
    if base.chain_id != top:
        raise InvalidImage(
            f"the writable layer {rw.name!r} is not on image {base.image_id}: its parent is {top}, and the image's "
            f"topmost layer is {base.chain_id}"
        )


def _register(
    store: LayerStore, rw: RWLayer, mtime_ns: int | None, progress: Progress | None
) -> tuple[Layer | None, Layer | None]:
    """Register the changes. Return a handle to the new layer, or `None` without changes; and the parent, if any."""
    parent = rw.parent
    with open_changes(rw) as changes, ExitStack() as opened:
        if changes.is_empty:
            changes.verify()
            return None, parent
        stream = buffered(changes)
        if mtime_ns is not None:
            builder = LayerBuilder(mtime_ns=mtime_ns, spool_dir=store.context.scratch_directory())
            opened.enter_context(builder).add_tar("/", stream)
            changes.verify()
            stream = opened.enter_context(builder.open())
        return store.register(stream, "" if parent is None else parent.chain_id, progress=progress), parent


def _complete_layers(config: ImageConfig, top: Layer | None, *, given: bool) -> None:
    """Add the layers of a chain to a new config, or check that a given config has these.

    Raises:
        InvalidImage: it has others.
    """
    diff_ids = [] if top is None else [layer.diff_id for layer in top.chain()]
    try:
        own = list(config.diff_ids)
    except ValueError as error:
        raise InvalidImage(f"the config cannot be used: {error}") from None
    if given:
        if own != diff_ids:
            shown = chain_ids(own)[-1] if own else None
            raise InvalidImage(
                f"the config names the layers of {shown}, and the writable layer is on "
                f"{None if top is None else top.chain_id}"
            )
    elif config.rootfs is not None:
        config.rootfs.diff_ids = [*diff_ids]
