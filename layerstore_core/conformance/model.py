"""A plain model of a store in memory, and a player that plays the same steps in the store and in the model.

The steps are those of scripts (`layerstore_core.conformance.scripts`). Hypothesis draws them
(`layerstore_core.conformance.groups.stateful`), or they come from a file.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from layerstore_core.conformance.processes import Report, die, in_child
from layerstore_core.conformance.rig import DriverRig, read_all
from layerstore_core.conformance.scripts import InvalidScript, Step
from layerstore_core.conformance.tars import directory, file, symlink, tar_of, whiteout
from layerstore_core.conformance.trees import Tree, read_tree
from layerstore_core.conformance.watch import Watch
from layerstore_core.maintenance.gc import collect_garbage
from layerstore_core.store.handles import Layer, RWLayer
from layerstore_core.store.store import LayerStore

#: A file of the model: its kind, mode, and content or link target.
Fact = tuple[str, int, str]
#: The files of a tree by path.
Facts = dict[str, Fact]

_DIR: Final[Fact] = ("directory", 0o755, "")


@dataclass
class ModelLayer:
    """A read-only layer of the model."""

    facts: Facts
    tar: bytes
    parent: str | None
    #: The number of open handles.
    handles: int = 0
    pinned: bool = False


@dataclass
class ModelWritable:
    """A writable layer of the model."""

    facts: Facts
    parent: str | None
    mounted: bool = False


@dataclass
class Model:
    """The expected content of the store: layers by chain ID, writable layers by name."""

    layers: dict[str, ModelLayer] = field(default_factory=dict)
    writable: dict[str, ModelWritable] = field(default_factory=dict)

    def referenced(self) -> set[str]:
        """Return the layers that garbage collection must keep."""
        kept: set[str] = set()
        roots = [name for name, layer in self.layers.items() if layer.handles or layer.pinned]
        pending = [*roots, *(one.parent for one in self.writable.values())]
        while pending:
            name = pending.pop()
            if name is not None and name not in kept:
                kept.add(name)
                pending.append(self.layers[name].parent)
        return kept


class Player:
    """Plays steps in a store with one driver and in the model, and compares both.

    Args:
        rig: the driver and its root.
    """

    def __init__(self, rig: DriverRig) -> None:
        self._rig = rig
        rig.close()
        self.model = Model()
        self.steps: list[Step] = []
        self._stack = ExitStack()
        self._handles: list[tuple[str, Layer]] = []
        self._writable: dict[str, RWLayer] = {}
        self._paths: dict[str, Path] = {}
        #: The chain IDs of the layers, by the names that steps have given them.
        self._names: dict[str, str] = {}
        self._store = self._open()

    def close(self) -> None:
        """Remove all layers, and check that nothing is left."""
        self._close()
        with self._rig.store() as store:
            for name in store.rw_layers():
                store.release_rw_layer(store.get_rw_layer(name))
            for pin in store.pins():
                store.unpin(pin)
            collect_garbage(store)
            left = store.driver.layer_ids()
            assert not left, f"after all was removed and collected, the driver still has {left[0]}"
        mounts = self._rig.mounts()
        assert not mounts, f"after all was removed, there is still mounted: {mounts}"

    def play(self, step: Step) -> None:
        """Play one step, and compare store and model."""
        self.steps.append(step)
        try:
            getattr(self, f"_do_{step['do'].replace('-', '_')}")(
                **{key: value for key, value in step.items() if key != "do"}
            )
            self._compare()
        except Exception as error:
            error.add_note(f"in step {len(self.steps)}: {json.dumps(step)}")
            raise

    def layer_names(self) -> list[str]:
        """Return the names that steps have given to the existing layers, one for each layer."""
        names = {chain: name for name, chain in self._names.items()}
        return [names[chain] for chain in self.model.layers]

    # Steps. Each names the layer that it creates. "" is no layer.

    def _do_register(self, layer: str, parent: str, entries: list[list[str]]) -> None:
        chain = self._chain(parent)
        facts, tar = _applied(self.model.layers[chain].facts if chain else {}, entries)
        self._add(layer, self._store.register(io.BytesIO(tar), chain or ""), facts, tar, chain)

    def _do_commit(self, layer: str, writable: str) -> None:
        source = self._modelled(writable)
        tar = read_all(self._writable[writable].tar_stream())
        handle = self._store.register(io.BytesIO(tar), source.parent or "")
        self._add(layer, handle, dict(source.facts), tar, source.parent)

    def _do_create(self, layer: str, parent: str) -> None:
        if layer in self.model.writable:
            raise InvalidScript(f"there is a writable layer {layer} already")
        chain = self._chain(parent)
        self._writable[layer] = self._store.create_rw_layer(layer, chain or "")
        self.model.writable[layer] = ModelWritable(dict(self.model.layers[chain].facts) if chain else {}, chain)

    def _do_mount(self, layer: str) -> None:
        if self._modelled(layer).mounted:
            raise InvalidScript(f"{layer} is mounted already")
        self._paths[layer] = Path(self._writable[layer].mount())
        self.model.writable[layer].mounted = True

    def _do_unmount(self, layer: str) -> None:
        self._in_use(layer)
        self._writable[layer].unmount()
        del self._paths[layer]
        self.model.writable[layer].mounted = False

    def _do_write(self, layer: str, path: str, content: str) -> None:
        facts = self._in_use(layer).facts
        kind, mode, _ = facts.get(path, ("", 0o644, ""))
        target = self._paths[layer] / path
        if not _is_directory(facts, path) or kind not in ("", "file"):
            return
        target.write_text(content)
        if not kind:
            target.chmod(0o644)
        facts[path] = ("file", mode, content)

    def _do_make_directory(self, layer: str, path: str) -> None:
        facts = self._in_use(layer).facts
        if path in facts or not _is_directory(facts, path):
            return
        (self._paths[layer] / path).mkdir()
        (self._paths[layer] / path).chmod(0o755)
        facts[path] = _DIR

    def _do_link(self, layer: str, path: str, to: str) -> None:
        facts = self._in_use(layer).facts
        if path in facts or not _is_directory(facts, path):
            return
        (self._paths[layer] / path).symlink_to(to)
        facts[path] = ("symbolic link", 0o777, to)

    def _do_change_mode(self, layer: str, path: str, mode: int) -> None:
        facts = self._in_use(layer).facts
        if path not in facts or facts[path][0] == "symbolic link":
            return
        (self._paths[layer] / path).chmod(mode)
        facts[path] = (facts[path][0], mode, facts[path][2])

    def _do_delete(self, layer: str, path: str) -> None:
        facts = self._in_use(layer).facts
        if path not in facts:
            return
        target = self._paths[layer] / path
        if facts[path][0] == "directory":
            shutil.rmtree(target)
        else:
            target.unlink()
        _remove(facts, path)

    def _do_rename(self, layer: str, path: str, to: str) -> None:
        facts = self._in_use(layer).facts
        if path not in facts or to in facts or not _is_directory(facts, to) or f"{to}/".startswith(f"{path}/"):
            return
        # As `mv` does: if the file system refuses to move a directory, it is copied.
        shutil.move(self._paths[layer] / path, self._paths[layer] / to)
        moved = {name: fact for name, fact in facts.items() if name == path or name.startswith(path + "/")}
        _remove(facts, path)
        facts.update({to + name.removeprefix(path): fact for name, fact in moved.items()})

    def _do_remove(self, layer: str) -> None:
        self._modelled(layer)
        rw = self._writable.pop(layer)
        if self.model.writable[layer].mounted:
            rw.unmount()
            del self._paths[layer]
        parent = self.model.writable.pop(layer).parent
        removed = {one.chain_id for one in self._store.release_rw_layer(rw)}
        self._must_remove(removed, parent)

    def _do_pin(self, layer: str) -> None:
        chain = self._chain(layer)
        assert chain is not None
        with self._store.get(chain) as handle:
            self._store.pin(handle)
        self.model.layers[chain].pinned = True

    def _do_release(self, layer: str) -> None:
        chain = self._chain(layer)
        assert chain is not None
        at = next((at for at, (name, _) in enumerate(self._handles) if name == chain), None)
        if at is None:
            return
        _, handle = self._handles.pop(at)
        self.model.layers[chain].handles -= 1
        self._must_remove({one.chain_id for one in self._store.release(handle)}, chain)

    def _do_collect(self) -> None:
        collect_garbage(self._store)
        kept = self.model.referenced()
        self.model.layers = {name: layer for name, layer in self.model.layers.items() if name in kept}

    def _do_reopen(self) -> None:
        self._close()
        self._store = self._open()

    def _do_crash(self, layer: str, call: int, parent: str, entries: list[list[str]]) -> None:
        """Kill another process at a call of the driver, while it registers a layer and creates a writable one.

        The handles of this process are closed first: the child is a copy of it.
        """
        chain = self._chain(parent)
        facts, tar = _applied(self.model.layers[chain].facts if chain else {}, entries)
        self._close()

        def use(report: Report) -> None:
            left = call

            def count(hook: str, stage: str) -> None:
                nonlocal left
                left -= stage == "before"
                if left < 0:
                    die()

            with self._rig.store(("crash", Watch(count))) as store:
                registered = store.register(io.BytesIO(tar), chain or "")
                report(registered.chain_id)
                store.release_rw_layer(store.create_rw_layer("crashed", registered.chain_id))
                die()

        ended = in_child(use)
        assert ended.killed, ended.error
        self._store = self._open()
        if "crashed" in self._store.rw_layers():
            self._store.release_rw_layer(self._store.get_rw_layer("crashed"))
        for name in self._store.chain_ids():
            if name not in self.model.layers:
                self._add(layer, self._store.get(name), facts, tar, chain)
        for reported in ended.reported:
            assert reported in self.model.layers, f"the layer {reported}, whose registration had returned, is lost"

    # Internals

    def _open(self) -> LayerStore:
        store = self._stack.enter_context(self._rig.store())
        for name in self.model.writable:
            self._writable[name] = store.get_rw_layer(name)
        return store

    def _close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Close the store and all handles, without a check."""
        self._stack.close()
        self._handles.clear()
        self._writable.clear()
        self._paths.clear()
        for layer in self.model.layers.values():
            layer.handles = 0
        for writable in self.model.writable.values():
            writable.mounted = False

    def _chain(self, name: str) -> str | None:
        if not name:
            return None
        chain = self._names.get(name)
        if chain not in self.model.layers:
            raise InvalidScript(f"there is no layer {name}")
        return chain

    def _modelled(self, layer: str) -> ModelWritable:
        if layer not in self.model.writable:
            raise InvalidScript(f"there is no writable layer {layer}")
        return self.model.writable[layer]

    def _in_use(self, layer: str) -> ModelWritable:
        found = self._modelled(layer)
        if not found.mounted:
            raise InvalidScript(f"the writable layer {layer} is not mounted")
        return found

    def _name_of(self, chain: str) -> str:
        return next((name for name, known in self._names.items() if known == chain), chain)

    def _add(self, layer: str, handle: Layer, facts: Facts, tar: bytes, parent: str | None) -> None:
        name = handle.chain_id
        self._names[layer] = name
        if name not in self.model.layers:
            self.model.layers[name] = ModelLayer(facts, tar, parent)
        self.model.layers[name].handles += 1
        self._handles.append((name, handle))

    def _must_remove(self, removed: set[Any], start: str | None) -> None:
        """Check what a release has deleted: the layers without a reference, from one layer to its ancestors."""
        wanted = set()
        while start is not None:
            layer = self.model.layers[start]
            children = any(one.parent == start for one in self.model.layers.values())
            users = any(one.parent == start for one in self.model.writable.values())
            if layer.handles or layer.pinned or children or users:
                break
            wanted.add(start)
            del self.model.layers[start]
            start = layer.parent
        assert removed == wanted, f"a release deleted {sorted(removed)}, but unreferenced were {sorted(wanted)}"

    def _compare(self) -> None:
        found = set(self._store.chain_ids())
        assert found == self.model.layers.keys(), f"the store has the layers {found}, not {set(self.model.layers)}"
        assert self._store.rw_layers() == sorted(self.model.writable)
        for name, layer in self.model.layers.items():
            with self._store.get(name) as handle, self._store.driver.mounted(handle.cache_id) as path:
                _must_agree(read_tree(path), layer.facts, f"layer {self._name_of(name)}")
        for name, writable in self.model.writable.items():
            with self._writable[name].mounted() as path:
                _must_agree(read_tree(path), writable.facts, f"writable layer {name}")

    def compare_exports(self) -> None:
        """Compare every layer's tar too. This takes longer than comparing the trees."""
        for name, layer in self.model.layers.items():
            with self._store.get(name) as handle:
                exported = read_all(handle.tar_stream())
            assert exported == layer.tar, f"the tar of layer {self._name_of(name)} is not the one that was registered"


def replay(rig: DriverRig, steps: Iterable[Step]) -> None:
    """Play a script in a store.

    Raises:
        Exception: the failure of a step. A note names the step.
    """
    player = Player(rig)
    try:
        for step in steps:
            player.play(step)
        player.compare_exports()
    except BaseException:
        player.abandon()
        raise
    player.close()


def _applied(parent: Facts, entries: list[list[str]]) -> tuple[Facts, bytes]:
    """Return the tree and the tar of a layer. Both leave out entries whose parent directory does not exist."""
    facts = dict(parent)
    items = []
    for kind, path, text in entries:
        if not _is_directory(facts, path):
            continue
        name = path.encode()
        if kind == "delete":
            if path not in parent or path not in facts:
                continue
            items.append(whiteout(name))
            _remove(facts, path)
            continue
        if kind != "directory" or facts.get(path, ("",))[0] != "directory":
            _remove(facts, path)
        if kind == "file":
            items.append(file(name, text.encode()))
            facts[path] = ("file", 0o644, text)
        elif kind == "link":
            items.append(symlink(name, text.encode() or b"x"))
            facts[path] = ("symbolic link", 0o777, text or "x")
        else:
            items.append(directory(name))
            facts[path] = _DIR
    return facts, tar_of(items)


def _is_directory(facts: Facts, path: str) -> bool:
    """Return whether a path's parent is a directory."""
    parent = path.rpartition("/")[0]
    return not parent or facts.get(parent, ("",))[0] == "directory"


def _remove(facts: Facts, path: str) -> None:
    for name in [name for name in facts if name == path or name.startswith(path + "/")]:
        del facts[name]


def _must_agree(tree: Tree, facts: Facts, what: str) -> None:
    found = {
        os.fsdecode(path): (node.kind, node.mode, (node.content or node.target).decode())
        for path, node in tree.items()
        if path
    }
    assert found == facts, f"{what} shows {_only(found, facts)}, and should show {_only(facts, found)}"


def _only(one: Facts, other: Facts) -> Facts:
    return {path: fact for path, fact in one.items() if other.get(path) != fact}
