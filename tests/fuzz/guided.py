"""`guided.py TARGET [LIBFUZZER-ARGUMENTS]`: one target under atheris, which goes after bytes that reach new code.

Ends with another code than 0 at the first bytes that make the target raise; libFuzzer writes them to a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
with atheris.instrument_imports(include=["layerstore_core"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    # Atheris looks at all arguments, and leaves the first alone.
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
