"""The pieces of work, and the contenders of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.contenders import Contender
from benchmarks.contests import reading, registering, registries, starting, stores, trees
from benchmarks.workshop import Workshop


@dataclass(frozen=True)
class Work:
    """A piece of work.

    Attributes:
        title: the title in tables and charts. `{options.entries:,}` and the like stand for sizes.
        contenders: returns the contenders.
        reference: the name of the contender to which the table's ratios relate.
        times: how often a contender runs in a round. Short work needs more runs.
    """

    title: str
    contenders: Callable[[Workshop], list[Contender]]
    reference: str
    times: int = 1


#: The pieces of work that need a registry.
REGISTRIES: Final = ("pull", "pull-update", "push")
_REAL: Final = "a realistic layer, {options.real_entries:,} entries"
_EIGHT: Final = "an image of 8 layers, {options.entries:,} entries"
#: The pieces of work by name, in the order in which they are run.
WORKS: Final = {
    "register-real": Work(f"register {_REAL}", registering.realistic, "GNU tar -x"),
    "export-real": Work(f"export {_REAL}", trees.exporting_realistic, "GNU tar -c"),
    "register": Work("register a raw tar of {options.entries:,} entries", registering.small, "GNU tar -x"),
    "register-large": Work("register a raw tar of four files, {megabytes:,} MB", registering.large, "sha256sum"),
    "register-gzip": Work(
        "register {options.entries:,} entries, gzip-compressed", registering.compressed, "isal in Python"
    ),
    "register-gzip-large": Work(
        "register four files, {megabytes:,} MB, gzip-compressed", registering.compressed_large, "isal in Python"
    ),
    "pipe": Work(
        "register {options.entries:,} entries, gzip-compressed, from a file and through a pipe",
        registering.piped,
        "layerstore, vfs, from a file",
    ),
    "export": Work("export a layer of {options.entries:,} entries", trees.exporting, "GNU tar -c"),
    "copy": Work("copy a tree of {options.entries:,} entries, as for a vfs child", trees.copying, "cp -a"),
    "changes": Work("compare two trees of {options.entries:,} entries", trees.comparing, "rsync -an --delete"),
    "commit": Work("commit {options.changed:,} changed files", stores.committing, "docker commit"),
    "check": Work("check {options.checked} layers, {options.entries:,} entries in all", stores.checking, "sha256sum"),
    "layers": Work("a store of {options.layers:,} layers", stores.many_layers, "layerstore export, 10 layers"),
    "start": Work("small work", starting.starting, starting.NOTHING, times=4),
    "files": Work(f"list {_EIGHT}", reading.listing, "layerstore files -R"),
    "cat": Work(f"read one file of {_EIGHT}", reading.reading, "layerstore cat"),
    "diff": Work(f"compare {_EIGHT}, with one of a layer more", reading.comparing, "layerstore diff"),
    "image": Work(f"{_EIGHT} in all", stores.image, "layerstore, overlay2, one by one"),
    "processes": Work(
        "8 processes on one root, {options.entries:,} entries in all",
        stores.processes,
        "layerstore, overlay2, one after another",
    ),
    "load": Work(f"load {_EIGHT} in all, gzip-compressed", stores.loading, "docker load"),
    "pull": Work(
        "pull an image of three gzip layers: {options.pulled_entries:,} small files and four large ones",
        registries.pulling,
        "curl; tar -xz",
    ),
    "pull-update": Work(
        "pull an image of which all but a small layer is here", registries.updating, "layerstore pull, vfs"
    ),
    "push": Work(
        "push a pulled image to another repository of the same registry", registries.pushing, "layerstore push"
    ),
}
