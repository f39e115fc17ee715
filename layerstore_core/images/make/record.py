"""Recording an image whose layers are in the store, and the steps of its history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

from layerstore_core.base.digests import ChainID, DiffID, ImageID, chain_ids
from layerstore_core.errors import InvalidImage, InvalidReference
from layerstore_core.images.config.created import creation_time
from layerstore_core.images.image import Image
from layerstore_core.images.keep import outgoing

if TYPE_CHECKING:
    from layerstore_core.base.reference import Reference
    from layerstore_core.images.config.model import HistoryStep, ImageConfig
    from layerstore_core.images.config.options import ConfigOptions
    from layerstore_core.records.kept.documents import KeptDocuments
    from layerstore_core.store.handles import Layer
    from layerstore_core.store.store import LayerStore

#: Annotations of OCI image-spec (annotations.md) that say what an image was made from, and when.
_OF_BASE: Final = ("org.opencontainers.image.base.name", "org.opencontainers.image.base.digest")
_CREATED: Final = "org.opencontainers.image.created"


def history_entry(
    created_by: str = "",
    *,
    created: str | datetime | None = None,
    author: str = "",
    comment: str = "",
    empty_layer: bool = False,
) -> HistoryStep:
    """Return a step for the history of a config; texts that are empty are left out.

    Args:
        created_by: the command that made the step.
        created: when; see `creation_time`.
        author: who made it.
        comment: a comment, such as the message of a commit.
        empty_layer: whether it made no layer.

    Raises:
        ValueError: `created` is not a time.
    """
    from layerstore_core.images.config.model import HistoryStep

    step = HistoryStep(created=creation_time(created))
    if author:
        step.author = author
    if created_by:
        step.created_by = created_by
    if comment:
        step.comment = comment
    if empty_layer:
        step.empty_layer = True
    return step


def add_step(config: ImageConfig, step: HistoryStep, diff_id: DiffID | None = None) -> None:
    """Add a step to a config's history, and its layer, if it has made one.

    Layers that have no step, as in configs of other programs, get steps that say nothing, and steps that have no layer
    get `empty_layer`: a reader counts the steps to find out which layer belongs to which (OCI image config, `history`).

    Args:
        config: the config to change.
        step: the step.
        diff_id: the new layer's diff ID; `None` for a step that only changed the config.

    Raises:
        InvalidImage: the step says that it has a layer and there is none, or the other way.
    """
    from layerstore_core.images.config.model import HistoryStep, RootFS

    if bool(step.empty_layer) != (diff_id is None):
        raise InvalidImage(
            "a step of the history has empty_layer set where it has made a layer, or not set without one"
        )
    if config.rootfs is None:
        config.rootfs = RootFS(type="layers", diff_ids=[])
    layers = [*(config.rootfs.diff_ids or ())]
    steps = [*(config.history or ())]
    missing = fit_steps(steps, len(layers))
    config.history = [*steps, *(HistoryStep(created=step.created) for _ in range(missing)), step]
    if diff_id is not None:
        config.rootfs.diff_ids = [*layers, diff_id]


def fit_steps(steps: Sequence[HistoryStep], layers: int) -> int:
    """Set `empty_layer` in the last steps that say that they have made a layer, if there are fewer layers than these.

    Args:
        steps: the steps of a config's history, or of a part of it, which are changed.
        layers: how many layers they have made.

    Returns:
        How many layers have no step.
    """
    with_layer = [step for step in steps if not step.empty_layer]
    for step in with_layer[layers:]:
        step.empty_layer = True
    return max(layers - len(with_layer), 0)


@contextmanager
def releasing(store: LayerStore, handles: Sequence[Layer]) -> Iterator[None]:
    """Close handles at the end of a block; on an error, also delete the layers that their registrations have made.

    Args:
        store: an open store.
        handles: the handles; a list may grow in the block.
    """
    with ExitStack() as closed:
        try:
            yield
        except BaseException:
            for layer in handles:
                closed.callback(store.release, layer, only_made=True)
            raise
        for layer in handles:
            closed.callback(layer.close)


def finish_image(
    store: LayerStore,
    config: ImageConfig,
    new: Layer | None,
    below: Layer | None,
    *,
    base: Image | None,
    parent: ImageID | None,
    name: Reference | None,
    created_by: str | None = None,
    options: ConfigOptions | None = None,
    built_on: Sequence[ChainID | None] = (),
) -> Image:
    """End the making of an image: the steps of its history, its annotations, its records and its name.

    The handle to the new layer is closed. On an error the layers that its registration has made are deleted; nothing
    is changed then.

    Args:
        store: an open store.
        config: the new config, which has its time, and the layers up to `below`.
        new: a handle to the new layer; `None` for none.
        below: the layer below the new one, which the caller keeps open; `None` for none.
        base: the image that it is made from, whose annotations it has; `None` for none.
        parent: as in `record_image`.
        name: its name; `None` for none.
        created_by: the command that made the layer, for its step in the history; `None` if the history is complete.
        options: the author, the message, the instructions and the annotations.
        built_on: the topmost layers of further images that it is made from; all these images count as used now.

    Raises:
        InvalidImage, InvalidReference, OSError, LayerStoreError: as `record_image`.
    """
    with releasing(store, [] if new is None else [new]):
        if created_by is not None:
            step = history_entry(
                created_by,
                created=config.created,
                author=(options.author if options else None) or "",
                comment=options.message if options else "",
                empty_layer=new is None,
            )
            add_step(config, step, None if new is None else new.diff_id)
            changes = "; ".join(options.instructions) if options else ""
            if changes and changes != created_by:  # the step before may say the same
                add_step(config, history_entry(changes, created=config.created, empty_layer=True))
        annotations = {} if base is None else _inherited(annotations_of(store, base), config)
        if options:
            annotations = options.new_annotations(annotations)
        made = record_image(store, config, new or below, name=name, parent=parent, annotations=annotations)
        store.context.note_use([None if base is None else base.chain_id, *built_on])
        return made


def record_image(
    store: LayerStore,
    config: ImageConfig,
    top: Layer | None,
    *,
    name: Reference | None,
    parent: ImageID | None,
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """Record an image whose layers are in the store, and give it its name. The name comes last.

    If another image has the name, the name moves to this one. An image that exists already is not changed. A process
    that is killed meanwhile leaves the image without a name or with it, or not at all; `gc` removes one whose name was
    not recorded.

    Args:
        store: an open store. The caller has not locked the image records.
        config: its config.
        top: a handle to its topmost layer, which the caller keeps open meanwhile; `None` for no layers.
        name: its name; `None` for none.
        parent: the image that it was made from, if it is known: `rmi` does not remove that before this one. If that
            image was removed meanwhile, it is left out.
        annotations: the annotations that its manifest is to have.

    Returns:
        The image, with its name.

    Raises:
        InvalidImage: the config cannot be used, or names other layers.
        InvalidReference: the name has a digest.
        OSError, LayerStoreError: it cannot be recorded; nothing is changed.
    """
    document = config.to_document()
    expected = chain_ids(document.diff_ids)[-1] if document.diff_ids else None
    found = None if top is None else top.chain_id
    if expected != found:
        raise InvalidImage(f"the new config names the layers of {expected}, but the image's topmost layer is {found}")
    if name is not None and name.digest:
        raise InvalidReference(f"{str(name)!r} has a digest; use a name with a tag, such as app:1")
    size = 0 if top is None else top.size
    image_id = document.image_id
    full = None if name is None else str(name)
    with store.context.changing_images() as records:
        with ExitStack() as undo:
            if not records.has(image_id):
                undo.callback(records.remove, image_id)
            built_from = parent if parent not in (None, image_id) and records.has(parent) else None
            records.add(document.data, built_from, unnamed=name is not None)
            _set_annotations(store.context.kept, image_id, annotations or {}, full, undo)
            if full is not None:
                records.set_last_updated(image_id)
                records.set_names({**records.names(), full: image_id})
            undo.pop_all()
        records.finish([image_id])
    store.context.note_use([found])
    return Image(image_id, document, () if name is None else (str(name),), size)


def _inherited(annotations: Mapping[str, str], config: ImageConfig) -> dict[str, str]:
    """Return the annotations of a base image that are true of a new image, too.

    What they say of the base's own base, and of its time, is not. A digest of the new image's base is not set: an
    image that was made here, or came from Docker's archives, has no manifest that a registry knows.
    """
    found = {key: value for key, value in annotations.items() if key not in _OF_BASE}
    if _CREATED in found and config.created:
        found[_CREATED] = config.created
    return found


def _set_annotations(
    kept: KeptDocuments, image: ImageID, annotations: Mapping[str, str], name: str | None, undo: ExitStack
) -> None:
    """Set the annotations of an image; it may exist already, and have others under another name."""
    before = kept.of_image(image)
    if not annotations and before is None:
        return
    undo.callback(kept.set_image, image, before)
    if name is not None:
        undo.callback(kept.set_names, kept.names())
    kept.set_annotations(image, annotations, name=name)


def annotations_of(store: LayerStore, image: Image) -> dict[str, str]:
    """Return the annotations of an image: those that it was given here, or those of the manifest it came with.

    Where its names have manifests of their own, it is that of the name by which it was asked for; of an image that was
    given by its ID, the first one's.

    Raises:
        BadRecord: they are damaged.
        OSError: they cannot be read.
    """
    kept = store.context.kept
    if image.given_name is not None:
        return outgoing.annotations_of(kept, image.image_id, image.given_name)
    found = (outgoing.annotations_of(kept, image.image_id, name) for name in (*image.names, None))
    return next(filter(None, found), {})
