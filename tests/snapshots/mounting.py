"""Mount snapshots as an engine does: by the instructions alone."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from layerstore_core import MountSpec, Snapshots


@contextmanager
def mounted(specs: Sequence[MountSpec]) -> Iterator[Path]:
    """Mount for the length of a `with` block. A bind mount that can be written is the directory itself: no root."""
    (spec,) = specs
    if spec.type == "bind" and "rw" in spec.options:
        yield Path(spec.source)
        return
    with tempfile.TemporaryDirectory() as directory:
        command = ["mount", "--rbind" if spec.type == "bind" else "--types=overlay", spec.source, directory]
        options = [option for option in spec.options if option != "rbind"]
        if spec.type != "bind":
            command += ["-o", ",".join(options)]
        subprocess.run(command, check=True)
        try:
            if spec.type == "bind":
                subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


def write(specs: Sequence[MountSpec], files: dict[str, bytes | None]) -> None:
    """Write files through a mount; `None` removes one."""
    with mounted(specs) as top:
        for name, content in files.items():
            if content is None:
                (top / name).unlink()
            else:
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).write_bytes(content)


def files_in(specs: Sequence[MountSpec]) -> dict[str, bytes]:
    """Return the files that a mount shows."""
    with mounted(specs) as top:
        return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def committed(snapshots: Snapshots, name: str, parent: str, files: dict[str, bytes | None]) -> None:
    """Make a committed snapshot with files written to it."""
    write(snapshots.prepare(f"{name} extract", parent), files)
    snapshots.commit(name, f"{name} extract")
