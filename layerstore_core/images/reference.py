"""Names of images: `debian`, `debian:12`, `quay.io/org/app@sha256:…`.

The grammar and the short forms are those of Docker (github.com/distribution/reference): what has no registry is in
`docker.io`, what has no organization there is in `library`, and both are left out again where a name is shown.
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
#: Of the longest name, in bytes, with its domain.
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
        path: what follows it, such as `library/debian`.
        tag: such as `latest`; `None` where a digest takes its place, or nothing does.
        digest: of the manifest, `sha256:…`; `None` for none.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str, *, default_tag: str | None = "latest") -> Self:
        """Read a name.

        Args:
            text: as people write it.
            default_tag: the tag where the name has neither tag nor digest.

        Raises:
            InvalidReference: it is no image's name; the message says why.
            TypeError: it is no str.
        """
        check_type(text, str, "an image's name, a str")
        rest, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise _invalid(text, "what follows the @ has to be sha256: and 64 lower-case hex digits")
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
            raise _invalid(text, f"{domain!r} is no registry's address")
        if len(domain) + 1 + len(path) > _MAX_NAME:
            raise _invalid(text, f"it is longer than {_MAX_NAME} characters")
        return cls(domain, path, tag or (None if digest else default_tag), digest or None)

    @property
    def repository(self) -> str:
        """The name without tag and digest, as it is shown: `debian`.

        Nothing is left out where the rest would be read as something else. Docker shows `docker.io/localhost/app` as
        `localhost/app`, which is another image.
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
        """All of it, with nothing left out: `docker.io/library/debian:12`."""
        return f"{self.domain}/{self.path}{self._suffix}"

    def __str__(self) -> str:
        return self.repository + self._suffix

    @property
    def _suffix(self) -> str:
        if self.digest:
            return f"@{self.digest}"
        return f":{self.tag}" if self.tag else ""


def _is_domain(part: str) -> bool:
    """Whether what stands before a name's first slash is a registry."""
    return bool(set(".:") & set(part)) or part == "localhost" or part != part.lower()


def _invalid(text: str, reason: str) -> InvalidReference:
    return InvalidReference(f"{text[:300]!r} cannot name an image: {reason}")
