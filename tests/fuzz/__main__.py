"""`python -m tests.fuzz TARGET [ATHERIS-ARGUMENTS]`: for hours, by hand, with atheris (`pip install atheris`)."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["layerstore_core"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv[1]
    corpus = Path(__file__).with_name("corpus") / name
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], TARGETS[name])
    atheris.Fuzz()
