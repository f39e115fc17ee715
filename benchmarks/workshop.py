"""The surroundings of the benchmark: options, daemons, and inputs, each of which is created at its first use."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import inputs
from benchmarks.contenders import environment, layerstore


@dataclass(frozen=True)
class Options:
    """The options of the command line.

    Attributes:
        entries: the number of entries of the layer of small files.
        large: the bytes of the layer of few large files.
        layers: the number of layers of the store of many layers.
        depth: the depth of the deepest chain.
        pulled_entries: the number of small files of the image that is pulled.
        pulled_bytes: the bytes of the large files of that image.
        rounds: the number of runs of everything.
        full: whether to measure a million entries and ten GB too.
        full_entries: the number of entries for that.
        full_bytes: the number of bytes for that.
        growth_entries: the least number of entries of a round that measures growth, in all.
        disk: the directory for inputs that are too large for `work`.
    """

    entries: int
    large: int
    layers: int
    depth: int
    pulled_entries: int
    pulled_bytes: int
    rounds: int
    full: bool
    full_entries: int
    full_bytes: int
    growth_entries: int
    disk: Path


class Workshop:
    """The inputs of the benchmark, and the clients of daemons.

    Args:
        work: the benchmark's own directory, best on a tmpfs.
        options: the sizes.
        docker: the client of a daemon, if there is one.
        ctr: the client of a containerd, if there is one.
        registry: the address of a registry, if there is one.
    """

    def __init__(
        self,
        work: Path,
        options: Options,
        docker: list[str] | None = None,
        ctr: list[str] | None = None,
        registry: str | None = None,
    ) -> None:
        self.work = work
        self.options = options
        self.docker = docker
        self.ctr = ctr
        self.registry = registry

    @cached_property
    def small(self) -> Path:
        """The tar of small files."""
        target = self.work / "small.tar"
        inputs.small_files(target, self.options.entries)
        return target

    @cached_property
    def small_packed(self) -> Path:
        """The tar of small files, compressed."""
        target = self.work / "small.tar.gz"
        inputs.compress(self.small, target)
        return target

    @cached_property
    def diff_id(self) -> str:
        """The digest of the tar of small files, in hex."""
        return inputs.digest_of(self.small)

    @cached_property
    def large(self) -> tuple[Path, Path]:
        """The tar of large files, plain and compressed."""
        targets = self.work / "large.tar", self.work / "large.tar.gz"
        inputs.large_files(*targets, self.options.large)
        return targets

    @cached_property
    def stored(self) -> tuple[Path, str]:
        """A vfs store with the layer of small files, and its chain ID."""
        store = self.work / "store"
        done = subprocess.run(
            layerstore("register", str(self.small), root=str(store)),
            check=True,
            capture_output=True,
            text=True,
            env=environment(),
        )
        return store, done.stdout.strip()

    @cached_property
    def trees(self) -> tuple[Path, Path]:
        """The tree of small files, twice."""
        found = self.work / "tree", self.work / "other"
        for tree in found:
            tree.mkdir()
            subprocess.run(["tar", "-xf", self.small, "-C", tree], check=True)
        return found

    def archive_of(self, layers: list[tuple[Path, str]], name: str) -> Path:
        """Return a docker-archive of some layers."""
        target = self.work / f"{name}.archive"
        if not target.exists():
            inputs.docker_archive(target, layers, f"bench-{name}")
        return target

    def layout_of(self, layer: Path) -> Path:
        """Return an OCI layout of a layer of small files, compressed or not."""
        target = self.work / f"{layer.name}.layout"
        if not target.exists():
            inputs.oci_layout(target, layer, self.diff_id)
        return target

    @cached_property
    def image_layers(self) -> list[tuple[Path, str]]:
        """Eight layers of an eighth of the entries each, with their diff IDs in hex."""
        found = []
        for number in range(8):
            target = self.work / f"layer-{number}.tar"
            inputs.small_files(target, max(1, self.options.entries // 8), start=number * 100)
            found.append((target, inputs.digest_of(target)))
        return found

    @cached_property
    def child_layers(self) -> list[tuple[Path, str]]:
        """The same layers, and one more that changes a file of each."""
        target = self.work / "layer-changes.tar"
        inputs.changed_files(target, [layer for layer, _ in self.image_layers])
        return [*self.image_layers, (target, inputs.digest_of(target))]

    @cached_property
    def one_file(self) -> Path:
        """A tar of a single entry."""
        target = self.work / "one.tar"
        inputs.even_files(target, 2)
        return target
