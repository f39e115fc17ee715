"""Mount instructions: how another program mounts a layer, by mount(2) and with options that fit into one page.

Engines pass them on as they are. containerd takes the longest common directory of the lower layers away, by changing to
it, if the options come near to a page (`mount/mount_linux.go`). So lower layers are named by their short names: all are
in one directory, and 128 of them take 3,456 bytes. Source of the options: Linux,
`Documentation/filesystems/overlayfs.rst`; of the characters that must be escaped in them: `fs/overlayfs/params.c`.
"""

from __future__ import annotations

import os
from typing import Final

from layerstore_core import MountSpec
from layerstore_core.errors import MaxDepthExceeded
from layerstore_overlay.mount import MAX_MOUNT_DATA, OverlaySpec

#: In a list of directories, a colon ends a name. A comma ends an option, and the kernel removes one backslash.
_ESCAPED_IN_LIST: Final = str.maketrans({"\\": "\\\\", ":": "\\:", ",": "\\,"})
_ESCAPED: Final = str.maketrans({"\\": "\\\\", ",": "\\,"})


def overlay_mount(home: str, spec: OverlaySpec) -> MountSpec:
    """Return the instructions for a mount.

    Args:
        home: the driver's home, an absolute path.
        spec: what to mount. Its lower layers may be symbolic links.

    Raises:
        MaxDepthExceeded: even without the lower layers' common directory, the options are longer than a page.
    """
    options = ["ro"] if spec.upper is None else []
    options += [key if value is None else f"{key}={value}" for key, value in spec.options]
    if spec.upper is not None and spec.work is not None:
        for key, directory in ("workdir", spec.work), ("upperdir", spec.upper):
            options.append(f"{key}={os.path.join(home, directory).translate(_ESCAPED)}")
    common = os.path.join(home, os.path.commonpath([os.path.dirname(lower) for lower in spec.lower]), "")
    lowers = [os.path.join(home, lower).translate(_ESCAPED_IN_LIST) for lower in spec.lower]
    options.append("lowerdir=" + ":".join(lowers))
    shortest = len(os.fsencode(",".join(options))) - len(lowers) * len(os.fsencode(common.translate(_ESCAPED_IN_LIST)))
    if shortest > MAX_MOUNT_DATA:
        raise MaxDepthExceeded(
            f"the mount of a layer with {len(lowers)} lower layers needs options of {shortest} bytes; a program that "
            f"mounts it by mount(2) has at most {MAX_MOUNT_DATA}. Make an image with fewer layers (`layerstore squash`)"
        )
    return MountSpec("overlay", "overlay", tuple(options))
