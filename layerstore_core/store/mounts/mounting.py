"""The methods of a layer's handle that mount it read-only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from layerstore_core.errors import keeping_done

if TYPE_CHECKING:
    from layerstore_core.store.context import StoreContext
    from layerstore_core.store.nodes import LayerNode


class ReadOnlyMounting:
    """A layer that can be mounted read-only."""

    _context: StoreContext

    @property
    def _live(self) -> LayerNode:
        raise NotImplementedError

    def mount(self, directory: str | os.PathLike[str] | None = None) -> str:
        """Mount the layer's tree read-only. It stays mounted when this process ends, until `unmount`.

        The mount keeps the layer. It needs the rights of root (or a user namespace) and Linux 5.12. Programs in it gain
        no rights of their owner, and its devices cannot be opened.

        Args:
            directory: the mount point, an existing directory outside of the store's root. `None`: one below the root is
                made; if the layer is mounted there already, its path is returned.

        Returns:
            The absolute path of the tree.

        Raises:
            LayerStoreError: the directory cannot be used.
            OSError: the system refuses; nothing is left.
        """
        from layerstore_core.store.mounts.read_only import mount_tree  # lazy: few programs mount

        point = None if directory is None else os.fsdecode(directory)
        return mount_tree(self._context, self._live, point, keep=True).target

    def mounts(self) -> list[str]:
        """Return the paths at which the layer is mounted read-only."""
        from layerstore_core.store.mounts.read_only import mounts_of

        return [mount.target for mount in mounts_of(self._context).of(self._live.record.chain_id) if mount.target]

    def unmount(self, directory: str | os.PathLike[str] | None = None, *, force: bool = False) -> list[str]:
        """End read-only mounts of the layer that `mount` has made, in any process.

        Args:
            directory: the mount point; `None` for all of them.
            force: also forget mounts in other mount namespaces, which may not exist any more.

        Returns:
            The paths that were unmounted.

        Raises:
            OSError: one is in use (`EBUSY`); those before it have ended, and the error's `done` has their paths.
        """
        from layerstore_core.store.mounts.read_only import end_mount, mounts_of

        point = None if directory is None else os.path.realpath(os.fsdecode(directory))
        ended: list[str] = []
        with keeping_done(ended):
            for mount in mounts_of(self._context).of(self._live.record.chain_id):
                if mount.kept and point in (None, mount.target):
                    end_mount(self._context, mount, force=force)
                    ended.append(mount.target)
        return ended

    @contextmanager
    def mounted(self, directory: str | os.PathLike[str] | None = None) -> Iterator[str]:
        """Mount the layer's tree read-only for the length of a `with` block, and yield the path; errors as `mount`."""
        from layerstore_core.store.mounts.read_only import end_mount, mount_tree

        point = None if directory is None else os.fsdecode(directory)
        mount = mount_tree(self._context, self._live, point, keep=False)
        try:
            yield mount.target
        finally:
            if not self._context.locks.inherited:
                end_mount(self._context, mount)
