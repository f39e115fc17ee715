"""The fuzz targets of the kernels in C (`native/fuzz`): their names, their programs, their seeds, and a run of one.

The programs have AddressSanitizer and UndefinedBehaviorSanitizer. With clang, libFuzzer chooses the inputs; with gcc,
the fuzzer of `native/fuzz/driver.c` does.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from fastcrc import crc64

from benchmarks.realistic import realistic_files
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tarsplit.codec import LineWriter
from layerstore_core.tarsplit.record import Recorder

TOP: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = TOP / "native" / "fuzz"
#: The names of the targets.
TARGETS: Final = sorted(path.stem for path in SOURCES.glob("*.c") if path.stem != "driver")
#: Inputs of the fuzz targets in Python that are of use here, and inputs that once made a target in C fail.
_CORPORA: Final = (
    *(Path(__file__).with_name("corpus") / name for name in ("tar", "tar_split", "pax")),
    SOURCES / "corpus",
)
_LIBFUZZER: Final = ("FUZZER=libfuzzer", "CC=clang")


def compiler() -> str:
    """Return the compiler that is here and has the sanitizers: clang with libFuzzer, gcc, or an empty string."""
    for name, options in (
        ("clang", ["-fsanitize=fuzzer,address,undefined"]),
        ("gcc", ["-fsanitize=address,undefined"]),
    ):
        if shutil.which(name) and _links(name, options):
            return name
    return ""


def _links(name: str, options: list[str]) -> bool:
    code = (
        b"#include <stdint.h>\nint LLVMFuzzerTestOneInput(const uint8_t *d, unsigned long s) { return d && s ? 0 : 0; }"
    )
    code += b"\n#ifdef __GNUC__\n#ifndef __clang__\nint main(void) { return 0; }\n#endif\n#endif\n"
    command = [name, *options, "-x", "c", "-", "-o", "/dev/null"]
    return subprocess.run(command, input=code, capture_output=True, check=False).returncode == 0


def build(directory: Path, with_compiler: str) -> None:
    """Build the programs of all targets.

    Raises:
        CalledProcessError: a compiler's message is in the output.
    """
    options = _LIBFUZZER if with_compiler == "clang" else ("FUZZER=own", f"CC={with_compiler}")
    subprocess.run(["make", "-s", "-C", SOURCES, f"BUILD={directory}", *options], check=True)


def write_seeds(directory: Path) -> None:
    """Write small real tars, and the tar-split lines of each."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    realistic_files(directory / "realistic", 12)
    for name, kind in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        with tarfile.open(directory / name, "w", format=kind) as tar:
            for info, data in _entries(long=kind != tarfile.USTAR_FORMAT):
                tar.addfile(info, io.BytesIO(data))
    for tar_path in sorted(directory.iterdir()):
        lines = io.BytesIO()
        with tar_path.open("rb") as file:
            scanner = TarScanner(lambda file=file: file.read(1 << 20))  # type: ignore[misc]
            LayerStream(scanner, Recorder(LineWriter(lines), crc64.go_iso)).drain()
        tar_path.with_suffix(".lines").write_bytes(gzip.decompress(lines.getvalue()))


def _entries(*, long: bool) -> list[tuple[tarfile.TarInfo, bytes]]:
    found = []
    names = ["a", "a/é", "a/b", *([f"a/{'long' * 40}"] if long else [])]
    for kind, targets in (
        (tarfile.DIRTYPE, [""]),
        (tarfile.REGTYPE, [""]),
        (tarfile.SYMTYPE, names),
        (tarfile.LNKTYPE, names),
    ):
        for target in targets:
            info = tarfile.TarInfo(f"{names[0] if kind == tarfile.DIRTYPE else names[-1]}{len(found) or ''}")
            info.type, info.linkname = kind, target
            data = b"some content\n" * 50 if kind == tarfile.REGTYPE else b""
            info.size, info.mode, info.mtime = len(data), 0o755, 1_700_000_000
            info.uid, info.gid, info.uname, info.gname = 1000, 100, "name", "users"
            found.append((info, data))
    return found


def run(program: Path, seeds: Path, seconds: int, kept: Path, crash: Path) -> tuple[bool, str]:
    """Fuzz one target. Return whether it never failed, and what the program has said.

    Args:
        program: the program that `build` has made.
        seeds: the directory of `write_seeds`.
        seconds: the time.
        kept: the directory for inputs that reach new code, which exists. The next run begins with them, too.
        crash: the file for an input that makes the target fail.
    """
    corpora = [str(path) for path in (seeds, *_CORPORA) if path.exists()]
    uses_libfuzzer = b"LLVMFuzzerRunDriver" in program.read_bytes()
    if uses_libfuzzer:
        words = [f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=2048", f"-exact_artifact_path={crash}"]
        words += ["-max_len=65536", kept, *corpora]
    else:
        words = [f"-seconds={seconds}", f"-keep={kept}", f"-crash={crash}", kept, *corpora]
    done = subprocess.run([program, *words], capture_output=True, text=True, errors="replace", check=False)
    return done.returncode == 0, done.stdout + done.stderr


def inputs_tried(output: str) -> int:
    """Return how many inputs a run has tried, by its output."""
    return max((int(count) for count in re.findall(r"Done (\d+) runs", output)), default=0)
