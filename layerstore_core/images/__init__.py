"""Images: named chains of layers with a config, in Docker's records, and in and out of archives.

`images` is what a program uses. `reference` reads names; `container` and `layout` read docker-archives and OCI
layouts; `load` takes them in, `save` writes them; `recipe` is how a compressed layer goes out as it came in.
"""

from layerstore_core.images.image import Image
from layerstore_core.images.images import Images
from layerstore_core.images.reference import Reference

__all__ = ["Image", "Images", "Reference"]
