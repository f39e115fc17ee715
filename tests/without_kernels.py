"""Tests without the kernels in C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from layerstore_core.base.kernels import VARIABLE, engine

#: A mark for tests that need the kernels.
needs_kernels = pytest.mark.skipif(engine().kernels is None, reason=f"no kernels: {engine().reason}")


@contextmanager
def plain_way() -> Iterator[None]:
    """Let this process do without kernels for a `with` block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "0")
        engine.cache_clear()
        try:
            yield
        finally:
            engine.cache_clear()
