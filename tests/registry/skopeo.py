"""skopeo: another client of registries."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

_PATIENCE = 60


class SkopeoFailed(Exception):
    """skopeo did not do what it was to do; its message is the error's."""


def skopeo(*words: str | Path) -> str:
    """Run skopeo, which gets no credentials but those of its arguments. Return its standard output.

    Raises:
        SkopeoFailed: it failed.
    """
    surroundings = {**os.environ, "REGISTRY_AUTH_FILE": "/nonexistent/auth.json"}
    done = subprocess.run(
        ["skopeo", *map(str, words)], capture_output=True, timeout=_PATIENCE, check=False, cwd="/", env=surroundings
    )
    if done.returncode:
        raise SkopeoFailed(done.stderr.decode())
    return done.stdout.decode()


def copy_in(source: Path, target: str, *options: str) -> None:
    """Copy an image, with all that its index names, from the layout `source` to a registry in clear."""
    skopeo("copy", "--all", "--dest-tls-verify=false", *options, f"oci:{source}:image", f"docker://{target}")


def copy_out(source: str, target: Path, *options: str) -> Path:
    """Copy an image from a registry in clear to a new layout."""
    skopeo("copy", "--all", "--src-tls-verify=false", *options, f"docker://{source}", f"oci:{target}:image")
    return target


def raw(name: str, *options: str) -> bytes:
    """Return the bytes of a manifest."""
    return skopeo("inspect", "--raw", "--tls-verify=false", *options, f"docker://{name}").encode()


def tags(repository: str) -> list[str]:
    """Return the tags of a repository."""
    found: dict[str, Any] = json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{repository}"))
    return list(found["Tags"])
