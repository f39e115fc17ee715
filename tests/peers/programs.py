"""Programs that know images: Podman, buildah, umoci and Skopeo with a storage of their own, and layerstore itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from layerstore_core.cli.app import cli
from tests.docker import daemon

_PATIENCE = 120
_PACKAGES = {"busybox": "busybox-static", "dockerd": "docker.io", "docker": "docker.io"}
#: Podman wants to raise the limits of a container, which a process without CAP_SYS_RESOURCE cannot.
_RUN = ("run", "--rm", "--network=none", "--runtime=runc", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")


@cache
def why_not() -> str:
    """Return why the peers cannot be used here. Empty if they can."""
    if os.geteuid() != 0:
        return "the peers need the rights of root for owners, devices and mounts"
    for program in ("busybox", "podman", "buildah", "umoci", "runc"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian's package {_PACKAGES.get(program, program)})"
    return daemon.why_not()


def run(*words: str | Path, stdin: bytes = b"") -> bytes:
    """Run a program. Return its standard output."""
    done = subprocess.run([*map(str, words)], input=stdin, capture_output=True, timeout=_PATIENCE, check=False, cwd="/")
    assert done.returncode == 0, (words, done.stderr.decode())
    return done.stdout


class Containers:
    """Podman and buildah, with one storage of their own."""

    def __init__(self, directory: Path, driver: str = "overlay") -> None:
        storage = ("--root", directory / "graph", "--runroot", directory / "run", "--storage-driver", driver)
        self._buildah = ("buildah", *storage)
        engine = ("--tmpdir", directory / "tmp", "--cgroup-manager=cgroupfs", "--events-backend=file")
        self._podman = ("podman", *storage, *engine)

    def podman(self, *words: str | Path) -> str:
        return run(*self._podman, *words).decode()

    def buildah(self, *words: str | Path) -> str:
        return run(*self._buildah, *words).decode().strip()

    def run(self, image: str, *words: str) -> list[str]:
        """Run a container. Return the lines of its output."""
        return self.podman(*_RUN, image, *words).splitlines()

    def inspect(self, image: str) -> dict[str, Any]:
        (found,) = json.loads(self.podman("image", "inspect", image))
        return found  # type: ignore[no-any-return]

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Mount an image for the length of a `with` block."""
        yield Path(self.podman("image", "mount", image).strip())
        self.podman("image", "umount", image)


class Layerstore:
    """The command line, in this process, on a store with the driver vfs."""

    def __init__(self, root: Path) -> None:
        self._before = ("--root", str(root), "--driver", "vfs")

    def bytes(self, *words: str | Path) -> bytes:
        result = CliRunner().invoke(cli, [*self._before, *map(str, words)])
        assert result.exit_code == 0, (words, result.stderr, result.exception)
        return result.stdout_bytes

    def __call__(self, *words: str | Path) -> str:
        return self.bytes(*words).decode().strip()

    def json(self, *words: str | Path) -> Any:
        return json.loads(self.bytes(*words, "--json"))

    def config(self, image: str) -> dict[str, Any]:
        return json.loads(self.bytes("inspect", "--raw", image))  # type: ignore[no-any-return]

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Mount a new writable layer on an image for the length of a `with` block."""
        self("rw", "create", "mounted", "--image", image)
        try:
            yield Path(self("rw", "mount", "mounted"))
            self("rw", "umount", "mounted")
        finally:
            self("rw", "rm", "mounted")


def steps(history: list[Mapping[str, Any]]) -> list[tuple[str, str, bool]]:
    """Return the steps of a config's history: how, why, and whether without a layer."""
    return [(step.get("created_by", ""), step.get("comment", ""), step.get("empty_layer", False)) for step in history]


def said(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config says; Docker writes all keys, most of them without a value."""
    return {key: value for key, value in config.items() if value not in (None, "", [], {}, False)}


@contextmanager
def docker_mounted(found: Mapping[str, Any], where: Path) -> Iterator[Path]:
    """Mount the layers of an image that Docker keeps with overlay2, as it does."""
    data = found["GraphDriver"]["Data"]
    lower = [data["UpperDir"], *data.get("LowerDir", "").split(":")]
    lower = [path for path in lower if path]
    if len(lower) == 1:  # overlayfs wants two
        yield Path(lower[0])
        return
    where.mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={':'.join(lower)}", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)
