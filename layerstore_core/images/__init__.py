"""Images: named chains of layers with a config, in Docker's records, and in and out of archives.

`images` is what a program uses. `reference` reads names, `platforms` platforms; `container` opens archives and directories,
`formats` finds the images there (Docker's archives, OCI layouts, skopeo's directories); `load` takes them in, `save` writes them, `remove` removes them; `recipe` is how a compressed layer goes out as it came in.
"""

from layerstore_core.images.formats.found import Skipped
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.image import HistoryEntry, Image
from layerstore_core.images.images import Images, LoadedImages
from layerstore_core.images.reference import Reference
from layerstore_core.images.remove import Removal

__all__ = ["HistoryEntry", "Image", "Images", "LoadedImages", "Platform", "Reference", "Removal", "Skipped"]
