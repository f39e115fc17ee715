"""Empty directories, which tests of kernels fill."""

from __future__ import annotations

from pathlib import Path

import pytest


def _directory(name: str) -> object:
    @pytest.fixture(name=name)
    def made(tmp_path: Path) -> Path:
        path = tmp_path / name
        path.mkdir()
        return path

    return made


root, target, upper, lower = map(_directory, ("root", "target", "upper", "lower"))
