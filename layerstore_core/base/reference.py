"""Names of images: `debian`, `debian:12`, `quay.io/org/app@sha256:…`.

The grammar and the short forms are Docker's (github.com/distribution/reference). A name without a registry is in
`docker.io`. A name there without an organization is in `library`. Both are left out again when the name is shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from layerstore_core.base.arguments import check_type
from layerstore_core.errors import InvalidReference

_DEFAULT_DOMAIN: Final = "docker.io"
_OLD_DEFAULT_DOMAIN: Final = "index.docker.io"
_OFFICIAL: Final = "library/"
#: The length of the longest name with its domain, in bytes.
_MAX_NAME: Final = 255

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII)
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_IDENTIFIER = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A name of an image.

    Attributes:
        domain: the registry, such as `docker.io`.
        path: the part after the domain, such as `library/debian`.
        tag: the tag, such as `latest`; `None` for none.
        digest: the digest of the manifest, `sha256:…`; `None` for none.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str, *, default_tag: str | None = "latest") -> Self:
        """Parse a name.

        Args:
            text: the name, in its short or long form.
            default_tag: the tag for a name that has neither tag nor digest.

        Raises:
            InvalidReference: `text` is not a valid name of an image; the message says why.
            TypeError: `text` is not a `str`.
        """
        check_type(text, str, "an image's name, a str")
        rest, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise _invalid(text, "after the @ comes sha256: and 64 lower-case hex digits")
        head, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            head, tag = rest, ""
        elif not _TAG.fullmatch(tag):
            raise _invalid(
                text, "a tag has 1 to 128 letters, digits, '_', '.' and '-', and does not begin with '.' or '-'"
            )
        if _IDENTIFIER.fullmatch(head):
            raise _invalid(text, "64 hex digits are an image's ID")
        domain, slash, path = head.partition("/")
        if not slash or not _is_domain(domain):
            domain, path = _DEFAULT_DOMAIN, head
        if domain == _OLD_DEFAULT_DOMAIN:
            domain = _DEFAULT_DOMAIN
        if domain == _DEFAULT_DOMAIN and "/" not in path:
            path = _OFFICIAL + path
        if not _PATH.fullmatch(path):
            raise _invalid(
                text, "its parts are lower-case letters and digits, with single '.', '_' or '-' between them"
            )
        if not _DOMAIN.fullmatch(domain):
            raise _invalid(text, f"{domain!r} is not the address of a registry")
        if len(domain) + 1 + len(path) > _MAX_NAME:
            raise _invalid(text, f"it is longer than {_MAX_NAME} characters")
        return cls(domain, path, tag or (None if digest else default_tag), digest or None)

    @property
    def repository(self) -> str:
        """The name without tag and digest, in its short form: `debian`.

        The name is not shortened if the short form would mean another image: Docker shows `docker.io/localhost/app`
        as `localhost/app`, which is another image.
        """
        whole = f"{self.domain}/{self.path}"
        if self.domain != _DEFAULT_DOMAIN:
            return whole
        short = self.path.removeprefix(_OFFICIAL)
        if "/" in short:
            return whole if _is_domain(self.path.partition("/")[0]) else self.path
        return whole if _IDENTIFIER.fullmatch(short) else short

    @property
    def full_name(self) -> str:
        """The complete name: `docker.io/library/debian:12`."""
        return f"{self.domain}/{self.path}{self._suffix}"

    def __str__(self) -> str:
        return self.repository + self._suffix

    @property
    def _suffix(self) -> str:
        if self.digest:
            return f"@{self.digest}"
        return f":{self.tag}" if self.tag else ""


def is_registry(text: str) -> bool:
    """Return whether a text is the address of a registry: a host, which may have a port."""
    return _DOMAIN.fullmatch(text) is not None


def _is_domain(part: str) -> bool:
    """Return whether the part before the first slash of a name is a registry."""
    return bool(set(".:") & set(part)) or part == "localhost" or part != part.lower()


def _invalid(text: str, reason: str) -> InvalidReference:
    return InvalidReference(f"{text[:300]!r} cannot name an image: {reason}")
