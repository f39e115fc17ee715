"""The names by which the tests of the kit, the plugin and the reports pass facts on to each other."""

from __future__ import annotations

from typing import Final

import pytest

#: Names of pytest's user properties, by which a test process passes on what the report has to say.
ABOUT: Final = "conformance"
NOTE: Final = "conformance-note"
NOT_TRIED: Final = "conformance-not-tried"
COULD_DECLARE: Final = "conformance-could-declare"
FIGURES: Final = "conformance-figures"
FILE_SYSTEM: Final = "conformance-file-system"
FAILURE: Final = "conformance-failure"
LIMIT: Final = "conformance-limit"
KEPT: Final = "conformance-kept"

#: In a test that has ended: whether it failed in a way that was not declared.
FAILED: Final = pytest.StashKey[bool]()
