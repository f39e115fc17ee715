"""A credential helper for tests: `docker-credential-test`, which keeps credentials in a file."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.registry.surroundings import Places

#: Keeps credentials in a file beside itself, as the programs of docker-credential-helpers do in a keychain.
PROGRAM = """#!{python} -IS
import json, os, sys
path = __file__ + ".json"
kept = json.load(open(path)) if os.path.exists(path) else {{}}
with open(__file__ + ".log", "a") as log:
    log.write(sys.argv[1] + "\\n")
given = sys.stdin.read()
if sys.argv[1] == "get":
    if given.strip() not in kept:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps(kept[given.strip()]))
elif sys.argv[1] == "list":
    print(json.dumps({{key: value["Username"] for key, value in kept.items()}}))
elif sys.argv[1] == "store":
    document = json.loads(given)
    kept[document["ServerURL"]] = document
elif sys.argv[1] == "erase":
    kept.pop(given.strip(), None)
json.dump(kept, open(path, "w"))
"""


class Keychain:
    """A program in PATH, and Docker's file."""

    def __init__(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = places.etc / "bin"
        self._directory.mkdir()
        monkeypatch.setenv("PATH", f"{self._directory}:{os.environ['PATH']}")
        self.file = places.home / ".docker" / "config.json"
        self.file.parent.mkdir()
        self.program("test", PROGRAM.format(python=sys.executable))

    def program(self, name: str, text: str) -> None:
        path = self._directory / f"docker-credential-{name}"
        path.write_text(text)
        path.chmod(0o755)

    def configure(self, document: object) -> None:
        self.file.write_text(json.dumps(document))
        self.file.chmod(0o600)

    @property
    def kept(self) -> dict[str, dict[str, str]]:
        path = self._directory / "docker-credential-test.json"
        found: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
        return found

    @property
    def calls(self) -> list[str]:
        path = self._directory / "docker-credential-test.log"
        return path.read_text().split() if path.exists() else []
