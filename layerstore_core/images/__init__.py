"""Images: chains of layers with a config and names, kept in Docker's records, loaded from and saved to archives.

- `api` has the class `Images`, which programs use; `image`, `details` and `results` have what it returns.
- `arguments` checks the arguments of its methods; `filters` chooses images.
- `config` is the config as a model, which programs change, and the options that change it.
- `layer` builds the tar of a new layer; `make` makes images: one module an operation, as the commands are called.
- `formats` finds the images in an archive or a directory: Docker's archives, OCI layouts, Skopeo's directories.
- `transfer` loads images and saves them, to an `output`: a tar or a directory.
- `remote` pulls images from registries, pushes them, and reads them where they are.
- `keep` keeps what else belongs to images: manifests, signatures, compressed layers.
- `archive` has the class `ImageArchive`, which reads images of an archive without a store.
- `compare` compares two images or layers. `remove` removes names, images and their layers.

Names are loaded when they are first used: what reads an image in an archive or a registry needs no store.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerstore_core.base.reference import Reference
    from layerstore_core.images.api.images import Images
    from layerstore_core.images.details import ImageDetails, LayerOfImage
    from layerstore_core.images.filters import ImageFilter
    from layerstore_core.images.formats.found import Skipped
    from layerstore_core.images.formats.platforms import Platform
    from layerstore_core.images.image import HistoryEntry, Image
    from layerstore_core.images.remote.events import BlobEvent
    from layerstore_core.images.remove import Removal
    from layerstore_core.images.results import (
        LoadedImages,
        PulledImages,
        PushedBlob,
        PushedImage,
        SavedImages,
        SavedManifest,
    )
    from layerstore_core.records.kept import Referrer

_HOMES = {
    "BlobEvent": "images.remote.events",
    "HistoryEntry": "images.image",
    "Image": "images.image",
    "ImageDetails": "images.details",
    "ImageFilter": "images.filters",
    "Images": "images.api.images",
    "LayerOfImage": "images.details",
    "LoadedImages": "images.results",
    "Platform": "images.formats.platforms",
    "PulledImages": "images.results",
    "PushedBlob": "images.results",
    "PushedImage": "images.results",
    "Reference": "base.reference",
    "Referrer": "records.kept",
    "Removal": "images.remove",
    "SavedImages": "images.results",
    "SavedManifest": "images.results",
    "Skipped": "images.formats.found",
}

__all__ = [
    "BlobEvent",
    "HistoryEntry",
    "Image",
    "ImageDetails",
    "ImageFilter",
    "Images",
    "LayerOfImage",
    "LoadedImages",
    "Platform",
    "PulledImages",
    "PushedBlob",
    "PushedImage",
    "Reference",
    "Referrer",
    "Removal",
    "SavedImages",
    "SavedManifest",
    "Skipped",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"layerstore_core.{home}"), name)
    globals()[name] = value
    return value
