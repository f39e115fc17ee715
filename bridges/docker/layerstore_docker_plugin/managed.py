"""The directory of a managed plugin, from which `docker plugin create` makes one.

The plugin has its own copies of the Python packages. Python itself, and the libraries that it needs, are the host's:
`/usr` is mounted into the plugin. So it works on hosts with the same Python.

The facts about `config.json` are in Docker's "Plugin Config Version 1" (docs, `engine/extend/config.md`). Layers are
below the directory `propagatedMount`: what the plugin mounts there is seen by the daemon.
"""

from __future__ import annotations

import compileall
import json
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from layerstore_core import LayerStoreError
from layerstore_core.errors import while_doing
from layerstore_docker_plugin.installed import copy_installed, distribution_of

#: Where the plugin has its packages and its layers.
_PACKAGES: Final = "/layerstore"
_LAYERS: Final = "/layers"
_SOCKET: Final = "layerstore.sock"
_LINKS: Final = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
_DIRECTORIES: Final = ("dev", "etc", "layers", "proc", "run/docker/plugins", "sys", "tmp", "usr", "var")
#: What drivers need to give layers their owners, devices and attributes, and to mount them.
_CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
)


def build_plugin(target: Path, driver: str, options: Sequence[str], distribution: str) -> list[str]:
    """Make the directory of a managed plugin, whole or not at all.

    Args:
        target: the directory, which must not exist yet.
        driver: the driver.
        options: its options, each `KEY=VALUE`.
        distribution: the name of this program's distribution.

    Returns:
        The distributions that the plugin has, each with its version.

    Raises:
        LayerStoreError: the target exists, or a package cannot be copied.
        OSError: a file cannot be written.
    """
    if os.path.lexists(target):
        raise LayerStoreError(f"{target} exists already; name another directory, or remove it")
    wanted = [distribution, distribution_of(driver)]
    partial = target.parent / f".tmp-{secrets.token_hex(8)}"
    with while_doing(f"making {target}"):
        try:
            partial.mkdir()
            made = _fill(partial, driver, options, wanted)
            partial.rename(target)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError):
                _name_target(error, partial, target)
            raise
    return made


def _name_target(error: OSError, partial: Path, target: Path) -> None:
    """Let an error name the directory that was asked for, and not the temporary one."""
    if error.filename is not None:
        error.filename = os.fsdecode(error.filename).replace(str(partial), str(target), 1)
    if error.filename2 is not None:
        error.filename2 = os.fsdecode(error.filename2).replace(str(partial), str(target), 1)


def _fill(partial: Path, driver: str, options: Sequence[str], wanted: list[str]) -> list[str]:
    rootfs = partial / "rootfs"
    for name in _DIRECTORIES:
        (rootfs / name).mkdir(parents=True)
    for name in _LINKS:
        (rootfs / name).symlink_to(f"usr/{name}")
    packages = rootfs / _PACKAGES.lstrip("/")
    packages.mkdir()
    made = copy_installed(wanted, packages)
    compileall.compile_dir(packages, quiet=2, stripdir=packages, prependdir=_PACKAGES)
    mounts = [_mount("/usr")]
    python = os.path.realpath(sys.executable)
    base = os.path.realpath(sys.base_prefix)
    for path in {base, os.path.dirname(python)}:
        if not any(os.path.commonpath([path, mount["source"]]) == mount["source"] for mount in mounts):
            mounts.append(_mount(path))
            (rootfs / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    config = _config(python, driver, options, mounts, made)
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return made


def _config(
    python: str, driver: str, options: Sequence[str], mounts: Sequence[dict[str, Any]], made: Sequence[str]
) -> dict[str, Any]:
    words = ["--driver", driver, *(word for option in options for word in ("--driver-opt", option))]
    address = f"/run/docker/plugins/{_SOCKET}"
    ours = ", ".join(one for one in made if one.startswith("layerstore"))
    return {
        "description": f"layerstore's driver {driver} ({ours})",
        "documentation": "https://github.com/layerstore/layerstore/blob/main/docs/how-to/use-with-docker.md",
        "entrypoint": [python, "-s", "-m", "layerstore_docker_plugin", "--root", _LAYERS, "--address", address],
        "args": {
            "name": "args",
            "description": "the driver, its options, and -v for a log of calls",
            "settable": ["value"],
            "value": words,
        },
        "env": [
            {"name": "PYTHONPATH", "description": "", "settable": None, "value": _PACKAGES},
            {"name": "LC_ALL", "description": "", "settable": None, "value": "C.UTF-8"},
        ],
        "workdir": "/",
        "interface": {"types": ["docker.graphdriver/1.0"], "socket": _SOCKET},
        "network": {"type": "none"},
        "propagatedMount": _LAYERS,
        "linux": {"capabilities": list(_CAPABILITIES), "devices": None, "allowAllDevices": False},
        "mounts": list(mounts),
    }


def _mount(path: str) -> dict[str, Any]:
    return {
        "name": path.strip("/").replace("/", "-"),
        "description": "Python, and the libraries that it needs",
        "source": path,
        "destination": path,
        "type": "bind",
        "options": ["rbind", "ro"],
        "settable": None,
    }
