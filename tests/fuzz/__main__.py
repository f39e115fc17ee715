"""Strangers' bytes for as long as one likes, by hand: `python -m tests.fuzz MINUTES [TARGET...]`, or `make fuzz`.

With atheris (`pip install atheris`) guided by what is reached, starting from the corpus that is kept here; without it,
Hypothesis' random bytes again and again. What is found on the way is in `build/fuzz/<target>/`, and used by the next
run; bytes that did harm are in `build/fuzz/<target>.crash-…`, to be put into `tests/fuzz/corpus/<target>/` with a name
that says why, where `test_the_corpus` tries them for ever.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.fuzz.targets import TARGETS

TOP: Final = Path(__file__).resolve().parents[2]
FOUND: Final = TOP / "build" / "fuzz"


def guided(target: str, seconds: int) -> tuple[bool, str]:
    """Whether nothing was found, and how much was done."""
    own = FOUND / target
    own.mkdir(parents=True, exist_ok=True)
    # New ones are written to the first of the directories.
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
    """The same with Hypothesis alone."""
    end = time.monotonic() + seconds
    rounds = 0
    while not rounds or time.monotonic() < end:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--timeout=0", f"tests/fuzz/test_fuzz.py::test_any_bytes[{target}]"],
            cwd=TOP,
            env={**os.environ, "HYPOTHESIS_PROFILE": "thorough"},
            check=False,
        )
        if done.returncode:
            return False, ""
        rounds += 1
    return True, f"{rounds} rounds of Hypothesis"


def main(minutes: float, *targets: str) -> int:
    """Each target in turn, for its part of the time; 1 if one of them raised."""
    chosen = targets or tuple(TARGETS)
    seconds = max(1, round(minutes * 60 / len(chosen)))
    look = guided if importlib.util.find_spec("atheris") else unguided
    harmed = 0
    for target in chosen:
        well, what = look(target, seconds)
        print(f"{target}: {what}, {'nothing found' if well else 'FAILED; see above'}", flush=True)
        harmed += not well
    return 1 if harmed else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), *sys.argv[2:]))
