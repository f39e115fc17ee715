"""A driver that keeps each layer's own files in a directory, and merges them by the program fuse-overlayfs.

Below the driver's home:

- `layers/<id>/diff`: the layer's own files, with the program's marks for deleted names.
- `layers/<id>/parent`: the ID of its parent, empty for a base layer.
- `layers/<id>/work`: the program's working directory, as long as the layer can be written to.
- `layers/<id>/writable`: an empty file, if a tar that is applied is not all that the layer will have.
- `layers/<id>/merged`: where the layer is mounted, while it is in use, and `layers/<id>/pid`: the program's number.

A base layer is used without a mount: its own files are all that it has.
"""

import os

from layerstore_fuse_overlayfs.driver import FuseOverlayfsDriver

__all__ = ["KNOWN_LIMITS", "FuseOverlayfsDriver"]

_HARD_LINKS = (
    "in fuse-overlayfs 1.10, a change through one of several hard links of a parent's file is under one name alone, "
    "maybe another one, when the layer is mounted again"
)
#: The kit makes system calls fail by seccomp, which a process may use only if it gives up such rights.
_SETUID = "the kit takes from the process what fusermount3 needs: the rights of a program that is set-user-ID root"
_MOUNTING = ("apply_diff", "get", "put")

#: The tests of the conformance kit that this driver fails, each with the reason.
KNOWN_LIMITS = {
    "limits: test_long_names": "fuse-overlayfs 1.10 refuses names of more than 251 bytes: it keeps room for `.wh.`",
    "lifecycle: test_get_and_put_change_nothing": _HARD_LINKS,
    "mounts: test_a_look_at_a_layer_in_use": _HARD_LINKS,
}
if os.geteuid() != 0:
    KNOWN_LIMITS |= {
        **{f"faults: test_killed_inside_a_hook[{hook}-system-calls]": _SETUID for hook in _MOUNTING},
        **{f"faults: test_the_disk_becomes_full_inside_a_hook[{hook}]": _SETUID for hook in _MOUNTING},
    }
