"""One place that a registry's requests go to: its address, its certificates, and what it may be asked for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place that a registry's requests go to.

    Attributes:
        url: the beginning of each URL, up to and with `/v2`, without a slash at its end.
        host: the server's host, with its port if that is not the scheme's.
        mirror: whether it is a mirror, which is only read.
        ca: files with certificates that sign the server's, in PEM, in addition to the system's.
        client_cert: the file with the certificate that is shown to the server; `None` for none.
        client_key: the file with its key; `None` if it is in the same file.
        verify: whether the server's certificate is verified.
        credentials_key: the host for `credentials_for`.
        query: what is added to the query of each request, such as `ns`, which tells a mirror the registry.
        headers: what is added to the headers of each request.
        tags: whether it may be asked for tags; the digest of a tag from elsewhere may be asked for by `digests`.
        digests: whether it may be asked for manifests and blobs by digest.
        plain_after_tls: it speaks plain HTTP, and comes after an endpoint that is the same server with TLS. It is used
            only if that one does not speak TLS, and not if the certificate is wrong.
        prefix: the beginning of repositories' names that is replaced for this server.
        replacement: what takes its place.
        applied: what made this endpoint: files, settings, or `"default"`.
    """

    url: str
    host: str
    mirror: bool = False
    ca: tuple[Path, ...] = ()
    client_cert: Path | None = None
    client_key: Path | None = None
    verify: bool = True
    credentials_key: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tags: bool = True
    digests: bool = True
    plain_after_tls: bool = False
    prefix: str = ""
    replacement: str = ""
    applied: tuple[str, ...] = ()

    @property
    def key(self) -> Hashable:
        """What distinguishes it from other endpoints of a registry: one server may have several."""
        return self.url, self.mirror, self.tags, self.digests, self.prefix, self.replacement

    def repository(self, name: str) -> str:
        """Return the name that a repository has on this server."""
        if not (self.prefix or self.replacement):
            return name
        rest = name.removeprefix(self.prefix).strip("/")
        return "/".join(filter(None, (self.replacement, rest)))
