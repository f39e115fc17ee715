"""The two engines in one process: the kernels, and Python alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest

from layerstore_core.base.kernels import VARIABLE, engine

#: A mark for tests that need the kernels.
needs_kernels = pytest.mark.skipif(engine().kernels is None, reason=f"no kernels: {engine().reason}")


@contextmanager
def without_kernels() -> Iterator[None]:
    """Do everything in Python, for the length of a `with` block."""
    with mock.patch.dict(os.environ, {VARIABLE: "0"}):
        engine.cache_clear()
        try:
            yield
        finally:
            engine.cache_clear()
