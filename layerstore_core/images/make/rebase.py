"""Putting an image's own layers on another base image.

The config follows from three configs, as a merge of three versions does: a value that the image has unchanged from its
old base follows the new base; a value that the image has set, changed or removed stays so. `env`, `labels`, ports and
volumes are merged name by name. Entrypoint and command belong together: an own entrypoint keeps its command. Platform
and layers come from the new base, and author and time are the image's own.

crane (`crane rebase`) keeps the image's whole config instead, so that a new base's environment would be lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from layerstore_core.base.digests import ChainID
from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidImage
from layerstore_core.images.config.created import creation_time
from layerstore_core.images.image import Image
from layerstore_core.images.make.record import finish_image, fit_steps
from layerstore_core.store.handles import Layer
from layerstore_core.store.registration.chain import LayerInput
from layerstore_core.store.store import LayerStore

if TYPE_CHECKING:
    from layerstore_core.images.config.model import HistoryStep, ImageConfig

#: What a new image has from its new base in any case.
_OF_BASE: Final = ("architecture", "os", "os.version", "os.features", "variant")
#: What it has of its own in any case.
_OWN: Final = ("author", "rootfs", "history", "created", "config")
#: Objects that are merged name by name.
_BY_NAME: Final = ("Labels", "ExposedPorts", "Volumes")
_MISSING: Final[Any] = object()


def rebase(
    store: LayerStore,
    image: Image,
    old: Image | ChainID,
    new: Image | ChainID,
    *,
    name: Reference | None,
    created: str | datetime | None,
) -> Image:
    """Put an image's own layers on another base; see `Images.rebase`."""
    from layerstore_core.images.config.model import ImageConfig

    when = creation_time(created)
    with ExitStack() as opened:
        own = _layers_of(opened, store, image)
        old_layers, new_layers = (_layers_of(opened, store, base) for base in (old, new))
        _require_prefix(image, old, own, old_layers)
        before, after = (_config_of(base, layers) for base, layers in ((old, old_layers), (new, new_layers)))
        mine = ImageConfig.of_base(image.config)
        _require_same_platform(mine, after, image, new)
        merged = merge(mine, before, after)
        upper = own[len(old_layers) :]
        assert merged.rootfs is not None
        merged.rootfs.diff_ids = [layer.diff_id for layer in (*new_layers, *upper)]
        merged.history = [*_steps(after, len(new_layers)), *_own_steps(mine, before, len(old_layers), len(own))]
        merged.created = when
        top = _put_on(store, upper, new_layers[-1] if new_layers else None)
        return finish_image(
            store,
            merged,
            top,
            new_layers[-1] if new_layers else None,
            base=image,
            parent=new.image_id if isinstance(new, Image) else None,
            name=name,
            built_on=[base.chain_id if isinstance(base, Image) else base for base in (old, new)],
        )


def merge(mine: ImageConfig, before: ImageConfig, after: ImageConfig) -> ImageConfig:
    """Return the config of an image on a new base, with the image's own layers and history.

    Args:
        mine: the image's config.
        before: that of its old base.
        after: that of its new base.

    Raises:
        InvalidImage: the result is too large.
    """
    merged = _merged(_plain(mine), _plain(before), _plain(after))
    return type(mine).parse(json.dumps(merged).encode(), "the rebased config")


def _layers_of(opened: ExitStack, store: LayerStore, what: Image | ChainID) -> list[Layer]:
    """Return the layers of an image or a chain, the base first; the topmost is open until the end."""
    chain = what.chain_id if isinstance(what, Image) else what
    if chain is None:
        return []
    return opened.enter_context(store.get(chain)).chain()


def _require_prefix(image: Image, old: Image | ChainID, own: Sequence[Layer], base: Sequence[Layer]) -> None:
    what = f"image {old.image_id}" if isinstance(old, Image) else f"layer {old}"
    if len(base) > len(own):
        raise InvalidImage(
            f"{what} is no base of image {image.image_id}: it has {len(base)} layers, and the image {len(own)}"
        )
    for number, (mine, theirs) in enumerate(zip(own, base, strict=False), 1):
        if mine.diff_id != theirs.diff_id:
            raise InvalidImage(
                f"{what} is no base of image {image.image_id}: its layer {number} is {theirs.diff_id}, and the image's "
                f"is {mine.diff_id}"
            )


def _require_same_platform(mine: ImageConfig, after: ImageConfig, image: Image, new: Image | ChainID) -> None:
    if not isinstance(new, Image):
        return
    for field in ("os", "architecture"):
        own, theirs = getattr(mine, field), getattr(after, field)
        if own and theirs and own != theirs:
            raise InvalidImage(
                f"image {image.image_id} is for {field} {own:.80}, and its new base {new.image_id} for {theirs:.80}: "
                "programs of one do not run with libraries of the other"
            )


def _config_of(base: Image | ChainID, layers: Sequence[Layer]) -> ImageConfig:
    """Return the config of a base; for bare layers, one that says nothing else."""
    from layerstore_core.images.config.model import ImageConfig, RootFS

    if isinstance(base, Image):
        return ImageConfig.of_base(base.config)
    return ImageConfig(rootfs=RootFS(type="layers", diff_ids=[layer.diff_id for layer in layers]))


def _put_on(store: LayerStore, layers: Sequence[Layer], base: Layer | None) -> Layer | None:
    """Register layers again on another base; `None` if there are none. Those that are there already are not read."""
    if not layers:
        return None
    inputs = [
        LayerInput(partial(_tar_of, layer), layer.diff_id, f"layer {layer.chain_id}", layer.descriptor)
        for layer in layers
    ]
    return store.register_chain(inputs, "" if base is None else base.chain_id)


def _tar_of(layer: Layer) -> Any:
    return layer.tar_stream()


def _plain(config: ImageConfig) -> dict[str, Any]:
    """Return the JSON of a config as Python has it."""
    found: dict[str, Any] = config.model_dump(by_alias=True, exclude_unset=True)
    return found


def _merged(mine: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge of three configs."""
    result = _merged_values(mine, before, after, skip=(*_OWN, *_OF_BASE), empty_is_missing=True)
    own = {key: mine[key] for key in _OWN if key in mine}
    platform = {key: after[key] for key in _OF_BASE if key in after} or {
        key: mine[key] for key in _OF_BASE if key in mine
    }
    made = {**own, **result, **platform}
    execution = _merged_execution(*(config.get("config") or {} for config in (mine, before, after)))
    if execution or "config" in mine:
        made["config"] = execution
    return {key: made[key] for key in (*mine, *made) if key in made}  # in the order of the image's own config


def _merged_execution(mine: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    result = _merged_values(mine, before, after, skip=("Env", *_BY_NAME), empty_is_missing=True)
    if (mine.get("Entrypoint") or None) != (before.get("Entrypoint") or None):
        result.pop("Cmd", None)
        if "Cmd" in mine:
            result["Cmd"] = mine["Cmd"]
    for key in _BY_NAME:
        result[key] = _merged_values(*(config.get(key) or {} for config in (mine, before, after)))
    variables = _merged_values(*(_variables(config.get("Env") or ()) for config in (mine, before, after)))
    result["Env"] = list(variables.values())
    for key in ("Env", *_BY_NAME):
        if not result[key]:  # nothing is left: no key, unless the new base has it without anything in it
            del result[key]
            if key in after and not after[key]:
                result[key] = after[key]
    return {key: result[key] for key in (*mine, *result) if key in result}


def _merged_values(
    mine: Mapping[str, Any],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    skip: Sequence[str] = (),
    empty_is_missing: bool = False,
) -> dict[str, Any]:
    """Return, for each key, the new base's value if the image has that of the old base, and otherwise its own.

    Args:
        mine: the image's values.
        before: those of its old base.
        after: those of the new base.
        skip: keys that are left out.
        empty_is_missing: whether an empty value, or `null`, means the same as none.
    """
    result = {}
    for key in (*after, *mine):
        if key in skip:
            continue
        own = mine.get(key, _MISSING)
        old = before.get(key, _MISSING)
        value = after.get(key, _MISSING) if own == old or (empty_is_missing and _is_empty(own, old)) else own
        if value is not _MISSING:
            result[key] = value
    return result


def _is_empty(*values: Any) -> bool:
    return all(value is _MISSING or not value for value in values)


def _variables(env: Sequence[str]) -> dict[str, str]:
    return {variable.partition("=")[0]: variable for variable in env}


def _steps(config: ImageConfig, layers: int) -> list[HistoryStep]:
    """Return a base's history, with steps that say nothing for layers without any."""
    from layerstore_core.images.config.model import HistoryStep

    steps = [*(config.history or ())]
    missing = fit_steps(steps, layers)
    return [*steps, *(HistoryStep(created=config.created) for _ in range(missing))]


def _own_steps(mine: ImageConfig, before: ImageConfig, base_layers: int, layers: int) -> list[HistoryStep]:
    """Return the steps of an image after those of its base: as many as belong to its own layers, and empty ones."""
    steps, theirs = [*(mine.history or ())], [*(before.history or ())]
    # Without `empty_layer`, which `fit_steps` may have set in the steps of only one of the two.
    texts, known = (
        [step.model_dump_json(exclude_unset=True, exclude={"empty_layer"}) for step in some] for some in (steps, theirs)
    )
    if theirs and texts[: len(known)] == known and sum(not step.empty_layer for step in theirs) >= base_layers:
        own = steps[len(theirs) :]
    else:
        # The base has another history: leave out the steps of its layers, and no more.
        start, left = 0, base_layers
        while left and start < len(steps):
            left -= not steps[start].empty_layer
            start += 1
        own = steps[start:]
    from layerstore_core.images.config.model import HistoryStep

    missing = fit_steps(own, layers - base_layers)
    return [*(HistoryStep(created=mine.created) for _ in range(missing)), *own]
