"""Which engine does the work, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core.base.kernels import INTERFACE, engine


@pytest.fixture(autouse=True)
def other_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("LAYERSTORE_NATIVE", raising=False)
    engine.cache_clear()
    yield
    engine.cache_clear()


def test_kernels_are_used() -> None:
    # Not at the top of the module: a module that is skipped as a whole is none of the skips that fail.
    pytest.importorskip("layerstore_native._kernels", reason="the kernels are not built")
    kernels, reason = engine()
    assert kernels is not None
    assert kernels.crc64(b"") == 0
    assert reason == "layerstore-native is installed"


def test_variable_switches_kernels_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERSTORE_NATIVE", "0")
    assert engine() == (None, "the environment variable LAYERSTORE_NATIVE is 0")


def test_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "layerstore_native", None)
    assert engine() == (None, "the package layerstore-native is not installed")


def test_kernels_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    layerstore_native = pytest.importorskip("layerstore_native", reason="layerstore-native is not installed")
    monkeypatch.delattr(layerstore_native, "_kernels", raising=False)
    monkeypatch.setitem(sys.modules, "layerstore_native._kernels", None)
    kernels, reason = engine()
    assert kernels is None
    assert reason.startswith("layerstore-native was installed without its kernels, as without a C compiler")


def test_package_without_a_module_of_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test an installation that had no compiler: there is no file of the extension module."""
    (tmp_path / "layerstore_native").mkdir()
    (tmp_path / "layerstore_native" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    # An editable installation finds the package of the checkout by a finder of its own.
    monkeypatch.setattr(sys, "meta_path", [one for one in sys.meta_path if "editable" not in str(one).lower()])
    for name in ("layerstore_native", "layerstore_native._kernels"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    kernels, reason = engine()
    assert kernels is None
    assert reason.startswith("layerstore-native was installed without its kernels, as without a C compiler")


def test_kernels_of_another_interface_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not installed")
    monkeypatch.setattr(kernels, "INTERFACE", INTERFACE + 1)
    assert engine().kernels is None
    assert f"have interface {INTERFACE + 1}, not {INTERFACE}: install" in engine().reason


def test_kernels_without_a_number_of_their_interface_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout, kernels that were compiled long ago would lack functions."""
    kernels = pytest.importorskip("layerstore_native._kernels", reason="the kernels are not installed")
    monkeypatch.delattr(kernels, "INTERFACE")
    assert engine().kernels is None
    assert f"have interface 0, not {INTERFACE}" in engine().reason
