"""Whole stores: many layers, images, checks, and commits of writable layers."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from benchmarks import inputs
from benchmarks.contenders import (
    Contender,
    PreparationError,
    absent,
    in_both_engines,
    inside,
    layerstore,
    quietly,
    run,
    shell,
)
from benchmarks.contests.engines import docker_load
from benchmarks.contests.registering import ALL_OF_IT
from benchmarks.workshop import Workshop

_COMMIT: Final = "finding the changes, packing, hash, tar-split"


def many_layers(shop: Workshop) -> list[Contender]:
    """Return the contenders for a store of very many layers."""
    many, few = shop.work / "many-layers", shop.work / "few-layers"
    chains = {
        root: run(inside("many-layers", str(root), str(count)))
        for root, count in ((many, shop.options.layers), (few, 10))
    }
    does = "a whole process"
    return [
        Contender(
            "layerstore, opening", "the library's open and close", inside("open", str(many)), prints_seconds=True
        ),
        Contender("layerstore ls", does, layerstore("ls", root=str(many))),
        *(
            Contender(name, does, layerstore("export", chains[root], "-o", "/dev/null", root=str(root)))
            for name, root in (("layerstore export, many layers", many), ("layerstore export, 10 layers", few))
        ),
    ]


def image(shop: Workshop) -> list[Contender]:
    """Return the contenders that register the layers of an image, together and one by one."""
    layers = [f"{path}={diff_id}" for path, diff_id in shop.image_layers]
    found = [
        Contender(
            f"layerstore, {driver}, {how}",
            ALL_OF_IT,
            inside("image", driver, how, *layers),
            needs_root=driver == "overlay2",
            prints_seconds=True,
        )
        for driver in ("overlay2", "vfs")
        for how in ("together", "one by one")
    ]
    return [*found, docker_load(shop, shop.archive_of(shop.image_layers, "image"), "bench-image")]


def processes(shop: Workshop) -> list[Contender]:
    """Return the contenders that register eight layers in one root: eight processes at once, and one after another."""
    found = []
    for driver in ("overlay2", "vfs"):
        # Each word is a tar, and what follows it is the same for all.
        command = shlex.join(layerstore("register", driver=driver))
        scripts = {
            "at once": f'for tar; do {command} "$tar" & all="$all $!"; done; for one in $all; do wait $one; done',
            "one after another": f'for tar; do {command} "$tar"; done',
        }
        found += [
            Contender(
                f"layerstore, {driver}, {how}",
                "eight processes; hash, tar-split, extraction, commit",
                shell(script, *(str(path) for path, _ in shop.image_layers)),
                needs_root=driver == "overlay2",
            )
            for how, script in scripts.items()
        ]
    return found


def loading(shop: Workshop) -> list[Contender]:
    """Return the contenders that load an image of eight compressed layers."""
    archive = shop.archive_of(shop.packed_image_layers, "packed-image")
    ours = [
        Contender(
            f"layerstore load, {driver}",
            ALL_OF_IT,
            layerstore("load", str(archive), driver=driver),
            needs_root=driver == "overlay2",
        )
        for driver in ("overlay2", "vfs")
    ]
    storage = ["podman", "--root", "cs", "--runroot", "run", "--storage-driver", "overlay"]
    does = "hash, tar-split, extraction"
    podman = Contender("podman load", does, [*storage, "load", "-qi", str(archive)], "podman", needs_root=True)
    return [*in_both_engines(ours), docker_load(shop, archive, "bench-packed-image"), podman]


def checking(shop: Workshop) -> list[Contender]:
    """Return the contenders that read many layers: ours checks their tars and trees."""
    root, tars = shop.work / "checked", []
    for number in range(shop.options.checked):
        tars.append(shop.work / f"checked-{number}.tar")
        inputs.small_files(tars[-1], max(1, shop.options.entries // shop.options.checked), start=number)
    run(inside("register-all", str(root), *map(str, tars)))
    does = "reassembly, checksums, hash, all metadata of the trees"
    ours = Contender("layerstore check --full", does, layerstore("check", "--full", root=str(root)))
    sums = Contender("sha256sum", "hash of the tars", ["sha256sum", *map(str, tars)], "sha256sum")
    return [*in_both_engines([ours]), sums]


def committing(shop: Workshop) -> list[Contender]:
    """Return the contenders that make a layer of the files that were changed in a container."""
    base, changes = shop.work / "base.tar", shop.work / "changed.tar"
    inputs.small_files(base, shop.options.changed * 3 // 2)
    _change(base, changes, shop.options.changed)
    ours = [
        _commit(shop, driver, base, changes) for driver in ("overlay2", "vfs") if driver == "vfs" or not os.geteuid()
    ]
    archive = shop.archive_of([(base, inputs.digest_of(base))], "base")
    return [*in_both_engines(ours), _docker_commit(shop, archive, changes), _podman_commit(shop, archive, changes)]


def _change(source: Path, target: Path, count: int) -> None:
    """Write a tar with the first files of another, each of which has a byte more."""
    with tarfile.open(source) as old, tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as new:
        for entry in old:
            if entry.isfile() and (file := old.extractfile(entry)) is not None:
                data = file.read() + b"\n"
                entry.size = len(data)
                new.addfile(entry, io.BytesIO(data))
                count -= 1
                if not count:
                    return


def _commit(shop: Workshop, driver: str, base: Path, changes: Path) -> Contender:
    root = shop.work / f"commit-{driver}"
    parent = run(layerstore("register", str(base), root=str(root), driver=driver))
    run(layerstore("rw", "create", "work", "--parent", parent, root=str(root), driver=driver))
    tree = run(layerstore("rw", "mount", "work", root=str(root), driver=driver))
    subprocess.run(["tar", "-xf", changes, "-C", tree], check=True)
    run(layerstore("rw", "umount", "work", root=str(root), driver=driver))
    last = root.with_suffix(".last")
    last.touch()
    remove = shell('last=$1; shift; "$@" $(cat "$last")', str(last), *layerstore("rm", root=str(root), driver=driver))
    commit = layerstore("rw", "commit", "work", root=str(root), driver=driver)
    return Contender(
        f"layerstore rw commit, {driver}",
        f"{_COMMIT}; no flush",
        shell('last=$1; shift; "$@" >"$last"', str(last), *commit),
        before=quietly(remove),
    )


def _docker_commit(shop: Workshop, archive: Path, changes: Path) -> Contender:
    if not shop.docker:
        return absent("docker commit", _COMMIT, "dockerd")
    run([*shop.docker, "load", "-qi", str(archive)])
    container = run([*shop.docker, "create", "bench-base", "true"])
    with changes.open("rb") as file:
        subprocess.run([*shop.docker, "cp", "-", f"{container}:/"], stdin=file, check=True)
    commit = [*shop.docker, "commit", container, "bench-committed"]
    remove = quietly([*shop.docker, "rmi", "-f", "bench-committed"])
    return Contender("docker commit", _COMMIT, commit, "docker", remove, daemon=shop.docker_process)


def _podman_commit(shop: Workshop, archive: Path, changes: Path) -> Contender:
    if shutil.which("podman") is None or os.geteuid():
        return Contender("podman commit", _COMMIT, ["podman"], "podman", needs_root=True)
    root = shop.work / "podman"
    podman = ["podman", "--root", str(root), "--runroot", str(root / "run"), "--storage-driver", "overlay"]
    try:
        run([*podman, "load", "-qi", str(archive)])
        container = run([*podman, "create", "bench-base", "true"])
        tree = run([*podman, "mount", container])
        subprocess.run(["tar", "-xf", changes, "-C", tree], check=True)
        run([*podman, "umount", container])
    except (PreparationError, subprocess.CalledProcessError):
        return absent("podman commit", _COMMIT, "podman")
    commit = [*podman, "commit", "-q", container, "bench-committed"]
    return Contender("podman commit", _COMMIT, commit, "podman", quietly([*podman, "rmi", "-f", "bench-committed"]))
