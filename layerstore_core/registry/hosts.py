"""Where the requests for a repository go: the registry's mirrors, and then the registry.

The first of these that names the registry decides it: our own table `[registries."HOST"]`; registries.conf of podman;
hosts.toml of containerd; daemon.json of Docker. Certificates come from our own table of the server, or else from
what names the server, or else from the certs.d directories of podman and Docker.
"""

from __future__ import annotations

import os
from pathlib import Path

from layerstore_core.base.reference import is_registry
from layerstore_core.config.registries import Address, HostSettings
from layerstore_core.errors import ConfigError
from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.files import daemon_json, hosts_toml, registries_conf
from layerstore_core.registry.files.certificates import certificate_directories
from layerstore_core.registry.files.reading import in_system
from layerstore_core.registry.files.servers import (
    HUB,
    RegistrySettings,
    is_loopback,
    names_of,
    own_source,
    reach,
    settings_of,
    without_repeats,
)

__all__ = [
    "HUB",
    "Endpoint",
    "RegistrySettings",
    "canonical_host",
    "endpoints_of",
    "files_in_force",
    "is_loopback",
]


def canonical_host(host: str) -> str:
    """Return the name of a registry as it stands in names of images: Docker Hub has several names."""
    return names_of(host)[0]


def endpoints_of(host: str, settings: RegistrySettings | None = None, repository: str = "") -> list[Endpoint]:
    """Return where the requests for a repository go, in the order in which they are tried.

    A read tries all of them that may be asked. A write goes to those that are no mirrors.

    Args:
        host: the registry, as in names of images: `docker.io`, `registry.example.com:5000`.
        settings: the settings of registries; `None` for those of the configuration files.
        repository: the repository, such as `library/debian`; some files have other mirrors for some repositories.

    Raises:
        ConfigError: `host` is no address; or a file that may say something of the registry is damaged, or blocks it.
            The message names the file, the line if it is known, and what to do.
    """
    if not is_registry(host):
        raise ConfigError(f"{host!r} is not the address of a registry; give HOST or HOST:PORT")
    if settings is None:
        from layerstore_core.config.load import load_config

        settings = load_config().registries
    host = canonical_host(host)
    if (own := settings_of(host, settings)) is not None:
        return without_repeats(_own(host, own, settings))
    found = registries_conf.endpoints(host, repository, settings)
    if found is None:
        found = hosts_toml.endpoints(host, settings)
    if found is None:
        found = daemon_json.endpoints(host, settings)
    if found is None:
        found = reach(host, settings, "default")
    return without_repeats(found)


def _own(host: str, own: HostSettings, settings: RegistrySettings) -> list[Endpoint]:
    made: list[Endpoint] = []
    for text in own.mirrors:
        mirror = Address.parse(text)
        made += reach(
            mirror.host,
            settings,
            own_source(host),
            scheme=mirror.scheme,
            mirror=True,
            replacement=mirror.path,
            query={"ns": host},
        )
    return [*made, *reach(host, settings, own_source(host))]


def files_in_force() -> list[Path]:
    """Return the files and directories of other programs that exist, and may say something of a registry.

    None of them is read.
    """
    containerd = in_system("containerd", "certs.d")
    docker = daemon_json.daemon_json()
    return [
        *registries_conf.registries_conf_files(),
        *([containerd] if os.path.isdir(containerd) else []),
        *([docker] if docker else []),
        *(path for path in certificate_directories() if os.path.isdir(path)),
    ]
