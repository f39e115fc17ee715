"""`guided.py TARGET [LIBFUZZER-ARGUMENTS]`: fuzz one target with atheris, which looks for bytes that reach new code.

The exit code is not 0 if some bytes make the target raise. libFuzzer writes these bytes to a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
with atheris.instrument_imports(include=["layerstore_core"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    # Atheris reads all arguments but the first.
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
