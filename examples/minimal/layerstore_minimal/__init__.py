"""The smallest complete driver: each layer is a directory, and a child begins as a copy of its parent.

`docs/tutorial.md` of layerstore builds it step by step.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from layerstore_core import ConfigError, DriverContext, copy_tree, hookimpl, remove_tree


class MinimalDriver:
    """A driver that implements the required hooks, and nothing else."""

    contract = 1

    def __init__(self, context: DriverContext) -> None:
        self._home = context.home
        self._root_owner = context.id_mapping.root_pair()

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        if storage_opt:
            raise ConfigError(f"the minimal driver has no storage option {', '.join(sorted(storage_opt))}")
        if parent_id:
            os.stat(self._home / parent_id)  # FileNotFoundError if there is no such parent
        tree = self._home / layer_id
        self._home.mkdir(mode=0o710, parents=True, exist_ok=True)
        tree.mkdir()  # FileExistsError if the ID is in use
        try:
            tree.chmod(0o755)  # independent of the umask
            if os.geteuid() == 0:
                os.chown(tree, *self._root_owner)
            if parent_id:
                copy_tree(self._home / parent_id, tree)
        except BaseException:
            remove_tree(str(tree))  # a create that raises leaves nothing behind
            raise

    @hookimpl
    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        if mount_label:
            raise ConfigError("the minimal driver cannot label files for SELinux")
        self.create(layer_id, parent_id, storage_opt)

    @hookimpl
    def remove(self, layer_id: str) -> None:
        remove_tree(str(self._home / layer_id))

    @hookimpl
    def get(self, layer_id: str) -> str:
        tree: Path = self._home / layer_id
        os.stat(tree)  # FileNotFoundError if there is no such layer
        return str(tree)

    @hookimpl
    def put(self, layer_id: str) -> None:
        """Do nothing: nothing is mounted."""

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        return (self._home / layer_id).is_dir()
