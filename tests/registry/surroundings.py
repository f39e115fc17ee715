"""A home directory and a /etc of the tests' own, for the files that say where registries are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from layerstore_core.registry.files import reading

_PREFIXES = ("REGISTRY_", "XDG_", "CONTAINERS_", "DOCKER_", "LAYERSTORE_")


@dataclass(frozen=True)
class Places:
    """Where files are looked for."""

    etc: Path
    home: Path

    def write(self, name: str, text: str = "") -> Path:
        """Write a file: one that begins with `~/` is in the home directory, another one in /etc."""
        path = self.home / name[2:] if name.startswith("~/") else self.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def own_places(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Have this process and its children look for files below a directory, with none of the tester's variables."""
    for name in list(os.environ):
        if name.startswith(_PREFIXES) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    places = Places(directory / "etc", directory / "home")
    places.etc.mkdir(parents=True)
    places.home.mkdir()
    monkeypatch.setenv("HOME", str(places.home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory / "runtime"))
    monkeypatch.setattr(reading, "SYSTEM", places.etc)
    return places
