"""Images, writable layers and configs for the tests of making images."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerstore_core import Image, Images, RWLayer
from tests.images.archives import ImageSpec, docker_archive

WHEN = "2024-05-06T07:08:09Z"
CREATED = "1970-01-01T00:00:00Z"
RUN = {"Env": ["PATH=/bin", "A=1"], "Entrypoint": ["/bin/busybox"], "Cmd": ["sh"], "Labels": {"l": "1"}, "Vendor": 1}


def load(images: Images, *layers: bytes, name: str = "base:1", run: Any = None, **extra: Any) -> Image:
    """Load an image with these layers; `run` is its object `config`."""
    spec = ImageSpec(layers, [name], extra={"config": RUN if run is None else run, **extra})
    (image,) = images.load(io.BytesIO(docker_archive(spec)))
    return image


def write(rw: RWLayer, files: Mapping[str, bytes | None], *, mtime: int = 1_700_000_000) -> None:
    """Write files, or remove them where the content is `None`; all times are fixed."""
    with rw.mounted() as root:
        for name, content in files.items():
            path = Path(root, name)
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                os.utime(path, (mtime, mtime))
            for parent in list(Path(name).parents):
                os.utime(Path(root, parent), (mtime, mtime))


def document(image: Image) -> dict[str, Any]:
    """Return an image's config as JSON has it."""
    found: dict[str, Any] = json.loads(image.config.data)
    return found
