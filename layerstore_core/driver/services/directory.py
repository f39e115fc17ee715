"""A base class for drivers that keep each layer in a plain directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import make_directory
from layerstore_core.driver.hookspecs import hookimpl
from layerstore_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layerstore_core.driver.context import DriverContext

_HOME_MODE: Final = 0o710
_LAYER_MODE: Final = 0o700
_TREE_MODE: Final = 0o755


class DirectoryDriver:
    """The six required hooks and `layer_ids`, for a driver that keeps each layer in a plain directory.

    As it is, a layer is the directory `<home>/<layer ID>`, and a child begins as a copy of its parent. A subclass
    changes this by the methods `layer_directory`, `tree`, `fill`, `make_home` and `check_storage_opt`, which are no
    hooks. It adds other hooks as any driver does. A subclass that overrides a hook must mark it with `hookimpl` again.

    Args:
        context: the surroundings of this instance.

    Attributes:
        context: the same.
        layers: the directory in which each entry is a layer: the driver's home, unless a subclass sets another.
    """

    def __init__(self, context: DriverContext) -> None:
        self.context = context
        self.layers: Path = context.home

    # What a subclass may override

    def layer_directory(self, layer_id: str) -> Path:
        """Return the directory with all that belongs to a layer. `remove` deletes it."""
        return self.layers / layer_id

    def tree(self, layer_id: str) -> Path:
        """Return the directory with the layer's files, which `get` returns: the layer's directory, or one in it."""
        return self.layer_directory(layer_id)

    def fill(self, layer_id: str, parent_id: str, *, writable: bool) -> None:
        """Fill the tree of a new layer, which is an empty directory: copy the parent's tree.

        If this raises, the layer is removed.

        Args:
            layer_id: the new layer.
            parent_id: its parent; `""` for none.
            writable: the layer was asked for by `create_read_write`.

        Raises:
            FileNotFoundError: there is no such parent.
            OSError: something cannot be read or written.
        """
        if parent_id:
            from layerstore_core.tree.copy_tree import copy_tree

            copy_tree(self._existing_tree(parent_id), self.tree(layer_id))

    def make_home(self) -> None:
        """Make the directories that hold the layers, if they are missing."""
        make_directory(self.layers, _HOME_MODE)

    def check_storage_opt(self, storage_opt: Mapping[str, str]) -> None:
        """Refuse the options of a new layer that this driver does not know: all of them.

        Raises:
            ConfigError: an option is unknown, or has a bad value.
        """
        if storage_opt:
            unknown = ", ".join(map(repr, sorted(storage_opt)))
            raise ConfigError(f"the {self._name} driver knows no storage option {unknown}")

    # Hooks

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        self.check_storage_opt(storage_opt)
        self._create(layer_id, parent_id, writable=False)

    @hookimpl
    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        if mount_label:
            raise ConfigError(f"the {self._name} driver cannot label files for SELinux; leave the mount label out")
        self.check_storage_opt(storage_opt)
        self._create(layer_id, parent_id, writable=True)

    @hookimpl
    def remove(self, layer_id: str) -> None:
        from layerstore_core.tree.remove import remove_tree

        remove_tree(os.fsencode(self.layer_directory(layer_id)))

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        return inside.is_directory(self.layer_directory(layer_id))

    @hookimpl
    def get(self, layer_id: str) -> str:
        return str(self._existing_tree(layer_id))

    @hookimpl
    def put(self, layer_id: str) -> None:
        """Do nothing: nothing is mounted."""

    @hookimpl
    def layer_ids(self) -> list[str]:
        return inside.names(self.layers)

    # Internals

    @property
    def _name(self) -> str:
        return self.context.home.name

    def _create(self, layer_id: str, parent_id: str, *, writable: bool) -> None:
        self.make_home()
        directory, tree = self.layer_directory(layer_id), self.tree(layer_id)
        owner = None if os.geteuid() else self.context.id_mapping.root_pair()
        # FileExistsError from here means that the ID is in use: then nothing may be removed.
        if tree == directory:
            inside.mkdir(tree, _TREE_MODE, owner)
        else:
            inside.mkdir(directory, _LAYER_MODE)
        try:
            if tree != directory:
                inside.mkdir(tree, _TREE_MODE, owner)
            self.fill(layer_id, parent_id, writable=writable)
        except BaseException:
            self.remove(layer_id)
            raise

    def _existing_tree(self, layer_id: str) -> Path:
        """Return a layer's tree.

        Raises:
            FileNotFoundError: there is no such layer.
        """
        tree = self.tree(layer_id)
        inside.open_directory(tree).close()
        return tree
