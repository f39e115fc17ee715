"""How to mount a layer: what the hook `mounts` returns to the program that mounts it."""

from __future__ import annotations

from typing import NamedTuple


class MountSpec(NamedTuple):
    """One mount, in the words of mount(8) and of containerd's mount instructions.

    A bind mount of a directory has the type `bind`, the directory as its source, and the options `rw` or `ro` and
    `rbind`. Any other type is a file system that the kernel knows, such as `overlay`.

    Attributes:
        type: the type of the file system, or `bind`.
        source: what is mounted: for `bind`, the absolute path of a directory.
        options: the options, one by one, as they would stand between the commas of `mount -o`.
    """

    type: str
    source: str
    options: tuple[str, ...] = ()

    @classmethod
    def bind(cls, directory: str, *, read_only: bool) -> MountSpec:
        """Return the bind mount of a directory.

        Args:
            directory: its absolute path.
            read_only: nothing can be written through the mount.
        """
        return cls("bind", directory, ("ro" if read_only else "rw", "rbind"))
