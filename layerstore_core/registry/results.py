"""What the client of a registry returns."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index, as the registry gave it.

    Attributes:
        data: its bytes. Their digest is `digest`.
        digest: its digest, `sha256:…` or `sha512:…`.
        media_type: its media type.
    """

    data: bytes = field(repr=False)
    digest: str
    media_type: str


@dataclass(frozen=True, slots=True)
class ManifestInfo:
    """What a registry says of a manifest without giving it: nothing of it is verified.

    Attributes:
        digest: its digest; empty if the registry does not say.
        media_type: its media type.
        size: its size in bytes; `None` if the registry does not say.
    """

    digest: str
    media_type: str
    size: int | None


@dataclass(frozen=True, slots=True)
class PutManifest:
    """A manifest that the registry took.

    Attributes:
        digest: its digest.
        subject_handled: whether the registry lists it as a referrer of its subject. If it has a subject, and this is
            false, the client has to list it with the fallback tag.
    """

    digest: str
    subject_handled: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that has begun.

    Attributes:
        repository: the repository.
        url: where its next bytes go: valid for one request.
        chunk_min: the smallest piece that the registry takes, other than the last; 0 if it does not say.
    """

    repository: str
    url: str = field(repr=False)
    chunk_min: int = 0
