"""Making an image by one more layer: of files, directories and tars, or of a root file system."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, BinaryIO

from layerstore_core.errors import InvalidSource
from layerstore_core.images.config.model import ImageConfig
from layerstore_core.images.config.options import ConfigOptions
from layerstore_core.images.layer.builder import LayerBuilder
from layerstore_core.images.layer.tree_source import owner_in_layer
from layerstore_core.images.make.record import finish_image
from layerstore_core.images.make.sources import Source, add_source, own_files, parse_owner
from layerstore_core.tree.xattrs import read_xattrs
from layerstore_core.view.tree import TreeView

if TYPE_CHECKING:
    from layerstore_core.base.reference import Reference
    from layerstore_core.images.image import Image
    from layerstore_core.store.handles import Layer
    from layerstore_core.store.registration.layer import Progress
    from layerstore_core.store.store import LayerStore


def append(
    store: LayerStore,
    base: Image | None,
    sources: Sequence[Source] | LayerBuilder,
    *,
    name: Reference | None,
    owner: str | tuple[int, int] | None = None,
    mode: int | None = None,
    mtime_ns: int | None = None,
    options: ConfigOptions | None = None,
    progress: Progress | None = None,
) -> Image:
    """Make an image of another one and one more layer; see `Images.append`.

    Args:
        store: an open store.
        base: the image; `None` for none.
        sources: files, directories and tars with their places, or a layer that was built.
        name: the name of the new image.
        owner: the owner of everything, in numbers or as text.
        mode: permission bits of everything.
        mtime_ns: the time of everything, in nanoseconds since 1970.
        options: changes to the config.
        progress: called now and then with the bytes and entries of the layer.
    """
    with ExitStack() as stack:
        parent = None
        if base is not None and base.chain_id is not None:
            parent = stack.enter_context(store.get(base.chain_id))
        view = stack.enter_context(closing(parent.view() if parent is not None else TreeView(())))
        if isinstance(sources, LayerBuilder):
            builder, places = sources, ["a layer"]
        else:
            numbers = parse_owner(owner, view) if isinstance(owner, str) else owner
            builder = stack.enter_context(
                LayerBuilder(
                    owner=numbers,
                    mode=mode,
                    mtime_ns=mtime_ns,
                    base=view,
                    spool_dir=store.context.scratch_directory(),
                    limits=store.context.limits,
                )
            )
            places = _add_all(store, builder, sources)
        stream = stack.enter_context(builder.open(view)) if len(builder) else None
        created_by = f"layerstore append {' '.join(places)}"
        return add_layer(store, base, parent, stream, created_by, name=name, options=options, progress=progress)


def import_root(
    store: LayerStore,
    source: BinaryIO | str | os.PathLike[str],
    *,
    name: Reference | None,
    options: ConfigOptions | None = None,
    progress: Progress | None = None,
) -> Image:
    """Make an image of one layer, which is a root file system; see `Images.import_root`."""
    if not isinstance(source, (str, os.PathLike)) or not os.path.isdir(source):
        with ExitStack() as stack:
            stream = (
                stack.enter_context(open(source, "rb", buffering=0))
                if isinstance(source, (str, os.PathLike))
                else source
            )
            return add_layer(
                store, None, None, stream, "layerstore import", name=name, options=options, progress=progress
            )
    top = os.fspath(source)
    status = os.stat(top)
    with LayerBuilder() as builder:
        builder.add_directory(
            "/",
            owner=owner_in_layer(status.st_uid, status.st_gid),
            mode=stat.S_IMODE(status.st_mode),
            mtime_ns=status.st_mtime_ns,
            xattrs=read_xattrs(os.path.realpath(top)),
        )
        builder.add_tree("/", top, keep_owners=True, forbidden=own_files(store))
        with builder.open() as tar:
            return add_layer(store, None, None, tar, "layerstore import", name=name, options=options, progress=progress)


def add_layer(
    store: LayerStore,
    base: Image | None,
    parent: Layer | None,
    stream: BinaryIO | None,
    created_by: str,
    *,
    name: Reference | None,
    options: ConfigOptions | None = None,
    progress: Progress | None = None,
) -> Image:
    """Make an image of another one and a layer's tar.

    Args:
        store: an open store.
        base: the image; `None` for none.
        parent: a handle to its topmost layer; `None` for none.
        stream: the tar of the new layer; `None` for none, which makes a step without a layer.
        created_by: how the layer was made, for the history.
        name: the name of the new image.
        options: changes to the config.
        progress: as for `LayerStore.register`.

    Raises:
        InvalidLayer: the tar is damaged; nothing is changed.
        OSError, LayerStoreError: something cannot be read or recorded; nothing is changed.
    """
    options = options or ConfigOptions()
    config = ImageConfig.scratch() if base is None else ImageConfig.of_base(base.config)
    options.apply(config)
    store.context.check_writable()
    layer = None if stream is None else store.register(stream, parent, progress=progress)
    return finish_image(
        store,
        config,
        layer,
        parent,
        base=base,
        parent=None if base is None else base.image_id,
        name=name,
        created_by=created_by,
        options=options,
    )


def _add_all(store: LayerStore, builder: LayerBuilder, sources: Sequence[Source]) -> list[str]:
    """Add all sources to a layer; return the places in the image where they go."""
    if isinstance(sources, (str, bytes, os.PathLike)):
        raise TypeError(f"sources are a list of paths, or of pairs of a path and a place in the image, not {sources!r}")
    if not sources:
        raise InvalidSource("there is nothing to append: give a file, a directory or a tar")
    places = []
    forbidden = own_files(store)
    for source in sources:
        path, place = source if isinstance(source, tuple) else (source, "/")
        # The paths of the sources are not in the history: the image does not depend on where they were.
        places.append(add_source(builder, os.fspath(path), os.fspath(place), forbidden))
    return places
