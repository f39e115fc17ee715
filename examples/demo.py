"""A demonstration of the main operations by the `layerstore` command: register, change, commit and export layers.

`make demo` runs it. With the vfs driver it needs no root. It works in a temporary directory, and leaves nothing:

1. The Python standard library of this machine is registered as a base layer.
2. A second tar is registered as its child: it changes, adds and deletes files.
3. A writable layer is created on both, mounted, changed, compared and committed.
4. All three layers are exported, and their sha256 shows that the bytes are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """A row of the table of results."""

    what: str
    size: int
    entries: int
    register_seconds: float
    export_seconds: float
    same: bool


class Command:
    """The `layerstore` command with the options for one root."""

    def __init__(self, program: str, root: Path, driver: str) -> None:
        self._words = [program, "--root", str(root), "--driver", driver]

    def __call__(self, *args: str, show: bool = True) -> str:
        if show:
            print(f"$ layerstore {' '.join(args)}")
        done = subprocess.run([*self._words, *args], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"layerstore {' '.join(args)} failed with exit code {done.returncode}")
        return done.stdout

    def json(self, *args: str) -> Any:
        """Return the JSON output of a command as data."""
        return json.loads(self("--json", *args, show=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layerstore", default=shutil.which("layerstore"), help="the command to run")
    parser.add_argument("--driver", default="vfs")
    parser.add_argument("--directory", type=Path, help="where to work (default: a temporary directory)")
    options = parser.parse_args()
    if not options.layerstore:
        sys.exit("there is no layerstore command on the PATH; name it with --layerstore")
    with tempfile.TemporaryDirectory(prefix="layerstore-demo-", dir=options.directory) as scratch:
        run(Command(options.layerstore, Path(scratch) / "root", options.driver), Path(scratch))


def run(layerstore: Command, scratch: Path) -> None:
    """Run all steps of the demonstration."""
    title("A base layer: this machine's Python standard library")
    base_tar = scratch / "base.tar"
    entries = write_standard_library(base_tar)
    base, base_row = register(layerstore, base_tar, entries, "standard library")

    title("A child layer: one file changed, one added, one deleted")
    upper_tar = scratch / "upper.tar"
    entries = write_changes(upper_tar)
    upper, upper_row = register(layerstore, upper_tar, entries, "changes", "--parent", base[7:19])

    title("A writable layer on both: mount it, write in it, list the changes, commit")
    layerstore("rw", "create", "work", "--parent", upper[7:19])
    tree = Path(layerstore("rw", "mount", "work").rstrip("\n"))
    (tree / "hello.txt").write_text("written in a writable layer\n")
    (tree / "lib" / "added").mkdir()
    (tree / "lib" / "added" / "module.py").write_text("answer = 42\n")
    with open(tree / "lib" / "types.py", "a", encoding="utf-8") as file:
        file.write("# appended in the writable layer\n")
    (tree / "lib" / "this.py").unlink()
    print(layerstore("rw", "changes", "work"), end="")
    layerstore("rw", "umount", "work")
    began = time.monotonic()
    committed = layerstore("rw", "commit", "work").strip()
    commit_seconds = time.monotonic() - began
    print(committed)

    title("The layers, and their exported tars")
    print(layerstore("ls"), end="")
    rows = [base_row, upper_row]
    for chain, tar, row in ((base, base_tar, base_row), (upper, upper_tar, upper_row)):
        out = export(layerstore, chain, scratch, row)
        row.same = sha256(out) == sha256(tar)
        out.unlink()
    row = Row("committed", 0, 0, commit_seconds, 0, same=False)
    out = export(layerstore, committed, scratch, row)
    with tarfile.open(out) as tar_file:
        row.entries = len(tar_file.getmembers())
    row.size = out.stat().st_size
    row.same = f"sha256:{sha256(out)}" == layerstore.json("show", committed)["diff_id"]
    rows.append(row)

    title("A full check; then all layers are removed")
    layerstore("check", "--full")
    layerstore("rw", "rm", "work")
    for chain in (committed, upper, base):
        print(layerstore("rm", chain), end="")
    left = layerstore.json("info")
    print_table(rows)
    if not all(row.same for row in rows):
        sys.exit("an exported tar differs from the registered one")
    if left["layers"] or left["rw_layers"]:
        sys.exit("the store has layers left")
    print("\nEvery exported tar is the same as the registered one, byte for byte.")


def register(layerstore: Command, tar: Path, entries: int, what: str, *options: str) -> tuple[str, Row]:
    """Register a tar; return its chain ID, and a row for the table."""
    began = time.monotonic()
    chain = layerstore("register", str(tar), *options).strip()
    seconds = time.monotonic() - began
    print(chain)
    return chain, Row(what, tar.stat().st_size, entries, seconds, 0, same=False)


def export(layerstore: Command, chain: str, scratch: Path, row: Row) -> Path:
    """Export a layer to a file, and store the duration in `row`; return the file."""
    out = scratch / "exported.tar"
    began = time.monotonic()
    layerstore("export", chain[7:19], "-o", str(out))
    row.export_seconds = time.monotonic() - began
    return out


def write_standard_library(path: Path) -> int:
    """Write the standard library to a tar, as `lib/`, without installed packages; return the number of entries."""
    library = sysconfig.get_path("stdlib")
    entries = 0
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for where, directories, names in os.walk(library):
            directories[:] = sorted(
                d for d in directories if d not in ("site-packages", "dist-packages", "__pycache__")
            )
            inside = os.path.relpath(where, library)
            tar.add(where, os.path.normpath(os.path.join("lib", inside)), recursive=False)
            for name in sorted(names):
                if os.access(os.path.join(where, name), os.R_OK):
                    tar.add(os.path.join(where, name), os.path.normpath(os.path.join("lib", inside, name)))
                    entries += 1
            entries += 1
    return entries


def write_changes(path: Path) -> int:
    """Write a tar with a changed, an added and a deleted file; return the number of entries."""
    with changes(path) as add:
        add("lib/os.py", b"# this module was changed by the second layer\n")
        add("etc/motd", b"added by the second layer\n")
        add("lib/.wh.antigravity.py", b"")
    return 3


@contextmanager
def changes(path: Path) -> Iterator[Any]:
    """Write a tar of small files inside a `with` block; yields a function that adds one. They belong to this user."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), int(time.time())
            entry.uid, entry.gid = os.getuid(), os.getgid()
            tar.addfile(entry, io.BytesIO(content))

        yield add


def sha256(path: Path) -> str:
    """Return the digest of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def title(text: str) -> None:
    """Print a title."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def print_table(rows: list[Row]) -> None:
    """Print the table of results. Durations are those of whole processes."""
    title("Result")
    print(f"{'layer':<18}{'entries':>8}{'size':>11}{'register':>11}{'export':>10}   sha256")
    for row in rows:
        print(
            f"{row.what:<18}{row.entries:>8}{row.size / 1e6:>8.1f} MB{row.register_seconds:>9.2f} s"
            f"{row.export_seconds:>8.2f} s   {'the same' if row.same else 'DIFFERENT'}"
        )


if __name__ == "__main__":
    main()
