"""The surroundings of the benchmark: options, daemons, and inputs, each of which is created at its first use."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import inputs
from benchmarks.contenders import layerstore, run
from benchmarks.daemons import PID
from benchmarks.realistic import realistic_files


@dataclass(frozen=True)
class Options:
    """The options of the command line.

    Attributes:
        entries: the number of entries of the layer of small files.
        real_entries: the number of entries of the realistic layer.
        checked: the number of layers that are checked.
        changed: the number of files that a container has changed.
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
    real_entries: int
    checked: int
    changed: int
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


class Sample:
    """A layer that is measured, in all its forms, each of which is made at its first use.

    Args:
        work: the directory for the files.
        name: the name of the files.
        make: writes the tar.
    """

    def __init__(self, work: Path, name: str, make: Callable[[Path], object]) -> None:
        self.name = name
        self._work = work
        self._make = make

    @cached_property
    def tar(self) -> Path:
        """The tar."""
        target = self._work / f"{self.name}.tar"
        self._make(target)
        return target

    @cached_property
    def packed(self) -> Path:
        """The tar, compressed."""
        target = self._work / f"{self.name}.tar.gz"
        inputs.compress(self.tar, target)
        return target

    @cached_property
    def diff_id(self) -> str:
        """The digest of the tar, in hex."""
        return inputs.digest_of(self.tar)

    @cached_property
    def stored(self) -> tuple[Path, str]:
        """A vfs store with the layer, and its chain ID."""
        store = self._work / f"{self.name}-store"
        return store, run(layerstore("register", str(self.tar), root=str(store)))

    @cached_property
    def tree(self) -> Path:
        """The tree of the layer."""
        return self._unpacked("tree")

    @cached_property
    def other_tree(self) -> Path:
        """The same tree again."""
        return self._unpacked("other")

    @cached_property
    def archive(self) -> Path:
        """A docker-archive of an image with only this layer, called `bench-NAME`."""
        return self._archive(self.tar)

    @cached_property
    def packed_archive(self) -> Path:
        """The same image with its layer compressed, called `bench-NAME.gz`."""
        return self._archive(self.packed)

    def layout(self, layer: Path) -> Path:
        """Return an OCI layout of `tar` or of `packed`."""
        target = self._work / f"{layer.name}.layout"
        if not target.exists():
            inputs.oci_layout(target, layer, self.diff_id)
        return target

    def _archive(self, layer: Path) -> Path:
        target = self._work / f"{layer.name}.archive"
        inputs.docker_archive(target, [(layer, self.diff_id)], image_of(layer))
        return target

    def _unpacked(self, what: str) -> Path:
        tree = self._work / f"{self.name}-{what}"
        tree.mkdir()
        subprocess.run(extraction(self.tar, str(tree)), check=True)
        return tree


def image_of(layer: Path) -> str:
    """Return the name of an image of one layer."""
    return f"bench-{layer.name.removesuffix('.tar').replace('.tar.', '-')}"


def extraction(tar: Path, directory: str) -> list[str]:
    """Return the command of GNU tar that extracts a tar with its attributes."""
    return ["tar", "--xattrs", "-xf", str(tar), "-C", directory]


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
        self.docker_process = work / "docker" / PID
        self.ctr_process = work / "containerd" / PID

    @cached_property
    def small(self) -> Sample:
        """The layer of small files."""
        return Sample(self.work, "small", lambda target: inputs.small_files(target, self.options.entries))

    @cached_property
    def real(self) -> Sample:
        """The realistic layer."""
        return Sample(self.work, "real", lambda target: realistic_files(target, self.options.real_entries))

    @cached_property
    def large(self) -> tuple[Path, Path]:
        """The tar of large files, plain and compressed."""
        targets = self.work / "large.tar", self.work / "large.tar.gz"
        inputs.large_files(*targets, self.options.large)
        return targets

    def archive_of(self, layers: list[tuple[Path, str]], name: str) -> Path:
        """Return a docker-archive of some layers."""
        target = self.work / f"{name}.archive"
        if not target.exists():
            inputs.docker_archive(target, layers, f"bench-{name}")
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
    def packed_image_layers(self) -> list[tuple[Path, str]]:
        """The same layers, compressed. The diff IDs are those of the tars."""
        found = []
        for layer, diff_id in self.image_layers:
            target = layer.with_suffix(".tar.gz")
            inputs.compress(layer, target)
            found.append((target, diff_id))
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
