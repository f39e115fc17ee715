"""Certificates of registries in `certs.d` directories, a directory for each host.

`*.crt` are certificates that sign the server's. `NAME.cert` with `NAME.key` is shown to the server. The format is
Docker's (docs.docker.com/engine/security/certificates) and that of containers-certs.d(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from layerstore_core.log import logger
from layerstore_core.registry.files.reading import damaged, in_home, in_system


@dataclass(frozen=True, slots=True)
class Certificates:
    """The certificates for one host.

    Attributes:
        ca: files with certificates that sign the server's.
        client_cert: the file with the certificate that the server is shown; `None` for none.
        client_key: the file with its key.
        directory: where they were found.
    """

    ca: tuple[Path, ...]
    client_cert: Path | None
    client_key: Path | None
    directory: Path


def certificate_directories() -> Iterator[Path]:
    """Yield the directories that have a directory for each host, in the order of precedence."""
    yield from in_home(".config", "containers", "certs.d")
    yield in_system("containers", "certs.d")
    yield from in_home(".config", "docker", "certs.d")
    yield in_system("docker", "certs.d")


def certificates_of(names: Sequence[str]) -> Certificates | None:
    """Return the certificates for a host: those of the first directory that there is; `None` if there is none.

    Args:
        names: the names of the host, with its port.

    Raises:
        ConfigError: a certificate has no key, or a key no certificate.
    """
    for directory in certificate_directories():
        for name in names:
            found = certificates_in(directory / name)
            if found is not None:
                return found
    return None


def certificates_in(directory: Path) -> Certificates | None:
    """Return the certificates in a directory; `None` if there is none, or if this user may not read it.

    Raises:
        ConfigError: as from `certificates_of`.
    """
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        logger.info("{} is not used: this user may not read it", directory)
        return None
    except OSError as error:
        raise damaged(directory, f"it cannot be read: {error.strerror}") from None
    ca = tuple(directory / name for name in names if name.endswith(".crt"))
    certs = {name.removesuffix(".cert"): directory / name for name in names if name.endswith(".cert")}
    keys = {name.removesuffix(".key"): directory / name for name in names if name.endswith(".key")}
    for stem in sorted(certs.keys() ^ keys.keys()):
        missing, there = (".key", ".cert") if stem in certs else (".cert", ".key")
        hint = "; a certificate that signs the server's ends in .crt" if stem in certs else ""
        raise damaged(directory, f"{stem}{missing} is missing, which belongs to {stem}{there}{hint}")
    first = min(certs, default=None)
    if first is None:
        return Certificates(ca, None, None, directory)
    return Certificates(ca, certs[first], keys[first], directory)
