"""Fuzz the parsers with untrusted bytes, for a chosen time: `python -m tests.fuzz MINUTES [TARGET...]`, or `make fuzz`.

With atheris (`pip install atheris`), code coverage guides the choice of bytes, beginning with the corpus in this
directory. Without it, Hypothesis draws random bytes again and again. New inputs are kept in `build/fuzz/<target>/`, and
the next run uses them. Bytes that make a target fail are in `build/fuzz/<target>.crash-…`. Put them into
`tests/fuzz/corpus/<target>/` with a name that says why, so that `test_targets_accept_the_corpus` tries them in every
run.

The targets of the kernels in C are called `native-<target>`, and need gcc, or clang with libFuzzer. Bytes that make one
of them fail go into `native/fuzz/corpus/`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.fuzz import kernels
from tests.fuzz.targets import TARGETS

TOP: Final = Path(__file__).resolve().parents[2]
FOUND: Final = TOP / "build" / "fuzz"
_NATIVE: Final = "native-"
_PYTEST: Final = (sys.executable, "-m", "pytest", "-q", "--timeout=0")


def guided(target: str, seconds: int) -> tuple[bool, str]:
    """Fuzz a target with atheris. Return whether it never failed, and the number of inputs as text."""
    own = FOUND / target
    own.mkdir(parents=True, exist_ok=True)
    # libFuzzer writes new inputs to the first of the directories.
    arguments = [own, Path(__file__).with_name("corpus") / target]
    options = [f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=2048", "-close_fd_mask=1"]
    options += [f"-artifact_prefix={FOUND}/{target}.", "-print_final_stats=1"]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("guided.py"), target, *options, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)|Done (\d+) runs", done.stderr)
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    return done.returncode == 0, f"{max((int(one or two) for one, two in runs), default=0)} inputs"


def unguided(target: str, seconds: int) -> tuple[bool, str]:
    """Fuzz a target with Hypothesis alone. Return whether it never failed, and the number of rounds as text."""
    end = time.monotonic() + seconds
    rounds = 0
    while not rounds or time.monotonic() < end:
        done = subprocess.run(
            [*_PYTEST, f"tests/fuzz/test_fuzz.py::test_targets_accept_any_bytes[{target}]"],
            cwd=TOP,
            env={**os.environ, "HYPOTHESIS_PROFILE": "thorough"},
            check=False,
        )
        if done.returncode:
            return False, ""
        rounds += 1
    return True, f"{rounds} rounds of Hypothesis"


def compiled(target: str, seconds: int) -> tuple[bool, str]:
    """Fuzz a target in C. Return whether it never failed, and the number of inputs as text."""
    kept = FOUND / target
    kept.mkdir(parents=True, exist_ok=True)
    program = FOUND / "programs" / f"{target.removeprefix(_NATIVE)}-fuzz"
    passed, output = kernels.run(program, FOUND / "native-seeds", seconds, kept, FOUND / f"{target}.crash")
    if not passed:
        print(output[-4000:], file=sys.stderr)
    return passed, f"{kernels.inputs_tried(output)} inputs"


def _compiled_targets() -> list[str]:
    """Build the programs of the targets in C. Return the names of these targets."""
    compiler = kernels.compiler()
    if not compiler:
        print("the kernels are left out: there is no compiler with AddressSanitizer", file=sys.stderr)
        return []
    shutil.rmtree(FOUND / "programs", ignore_errors=True)  # those of the other compiler do not fit
    kernels.build(FOUND / "programs", compiler)
    kernels.write_seeds(FOUND / "native-seeds")
    return [f"{_NATIVE}{name}" for name in kernels.TARGETS]


def main(minutes: float, *targets: str) -> int:
    """Fuzz each target in turn, for its part of the time. Return 1 if one of them failed, otherwise 0."""
    native = _compiled_targets()
    chosen = targets or (*native, *TARGETS)
    seconds = max(1, round(minutes * 60 / len(chosen)))
    in_python = guided if importlib.util.find_spec("atheris") else unguided
    failed = 0
    for target in chosen:
        passed, amount = (compiled if target in native else in_python)(target, seconds)
        print(f"{target}: {amount}, {'nothing found' if passed else 'FAILED; see above'}", flush=True)
        failed += not passed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), *sys.argv[2:]))
