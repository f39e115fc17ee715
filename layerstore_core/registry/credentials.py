"""Credentials for registries: found, kept and removed where Docker and podman look for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from layerstore_core.errors import ConfigError
from layerstore_core.registry.files.reading import in_home
from layerstore_core.registry.login.auth_file import AuthFile
from layerstore_core.registry.login.model import Credentials
from layerstore_core.rootless.rights import user_outside

__all__ = [
    "Credentials",
    "credential_files",
    "credentials_for",
    "erase_all_credentials",
    "erase_credentials",
    "hosts_with_credentials",
    "store_credentials",
]

_FILE_VARIABLE: Final = "REGISTRY_AUTH_FILE"


def credential_files() -> list[Path]:
    """Return the files with credentials that may exist, in the order in which they are searched.

    It is that of podman: the file of `REGISTRY_AUTH_FILE` alone; or else `auth.json` in `$XDG_RUNTIME_DIR/containers`
    (or `/run/containers/<user ID>`) and in `$XDG_CONFIG_HOME/containers` (or `~/.config/containers`), and Docker's
    `config.json` in `$DOCKER_CONFIG` (or `~/.docker`).
    """
    return [one.path for one in _files()]


def credentials_for(host: str, repository: str = "") -> Credentials | None:
    """Return the credentials for a repository; `None` if there are none.

    Args:
        host: the registry, as in names of images: `docker.io`, `registry.example.com:5000`.
        repository: the repository. There may be credentials for some repositories only; the most special ones count.

    Raises:
        ConfigError: a file is damaged or cannot be read, or a program that it names cannot be used.
    """
    for file in _files():
        if (found := file.find(host, repository)) is not None:
            return found
    return None


def hosts_with_credentials() -> list[str]:
    """Return the registries for which there are credentials, as far as the files name them; errors as above."""
    return sorted({host for file in _files() for host in file.hosts()})


def store_credentials(host: str, credentials: Credentials) -> str:
    """Keep credentials for a registry.

    They go to the file of `REGISTRY_AUTH_FILE`; or else to the first file that has an entry for the registry; or else
    to Docker's `config.json`, which podman reads, too; or to the program that the file names.

    Returns:
        Where they are: the file, or the program.

    Raises:
        ConfigError: the file is damaged, or the program cannot be used.
        OSError: the file cannot be written. It is unchanged then.
    """
    files = _files(must_exist=False)
    file = files[0] if len(files) == 1 else next((one for one in files if one.has(host)), files[-1])
    return file.store(host, credentials)


def erase_credentials(host: str) -> list[str]:
    """Remove the credentials for a registry wherever they would be found; those for single repositories stay.

    Returns:
        Where there were some: files, programs.

    Raises:
        ConfigError, OSError: as from `store_credentials`.
    """
    return [place for file in _files(must_exist=False) for place in file.erase(host)]


def erase_all_credentials() -> list[str]:
    """Remove the credentials of all registries and repositories; result and errors as for `erase_credentials`."""
    return [place for file in _files(must_exist=False) for place in file.erase_all()]


def _files(*, must_exist: bool = True) -> list[AuthFile]:
    """Return the files to search.

    Args:
        must_exist: whether a file that a variable names has to be there.
    """
    named = os.environ.get(_FILE_VARIABLE)
    if named:
        if must_exist and not os.path.exists(named):
            raise ConfigError(
                f"{named}: there is no such file, which {_FILE_VARIABLE} names; 'layerstore login' makes it"
            )
        return [AuthFile(Path(named))]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    config = os.environ.get("XDG_CONFIG_HOME")
    docker = os.environ.get("DOCKER_CONFIG")
    places = [
        Path(runtime) / "containers" if runtime else Path(f"/run/containers/{user_outside()}"),
        *([Path(config) / "containers"] if config else in_home(".config", "containers")),
    ]
    docker_places = [Path(docker)] if docker else in_home(".docker")
    return [
        *(AuthFile(place / "auth.json") for place in places),
        *(AuthFile(place / "config.json", docker=True) for place in docker_places),
    ]
