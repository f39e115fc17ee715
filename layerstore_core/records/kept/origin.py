"""Origins: what an image or a name came in with."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from layerstore_core.base.digests import ImageID

_DIGEST: Final = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})", re.ASCII)

#: How deep the JSON of a descriptor may be nested. Usual ones have three levels.
MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Referrer:
    """A signature, an SBOM, an attestation or another artifact that refers to a manifest or an index.

    Attributes:
        subject: the digest of what it refers to.
        descriptor: the descriptor of its own manifest, as the layout had it.
    """

    subject: str
    descriptor: Mapping[str, Any] = field(hash=False)

    @property
    def digest(self) -> str:
        """The digest of its manifest."""
        return str(self.descriptor.get("digest"))


@dataclass(frozen=True, slots=True)
class Origin:
    """What came in with an image or a name, or is to go out with it.

    Attributes:
        target: the descriptor of the manifest or index in the layout's own index; `None` for an image made here.
        images: the manifest of each image that the target led to, by image ID. An index leads to several.
        annotations: the annotations for the manifest of an image made here.
        referrers: what refers to the target, to a manifest in it, or to another referrer.
        documents: the digests of all documents that are kept for this.
    """

    target: Mapping[str, Any] | None = field(default=None, hash=False)
    images: Mapping[ImageID, str] = field(default_factory=dict, hash=False)
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    referrers: tuple[Referrer, ...] = ()
    documents: tuple[str, ...] = ()

    @property
    def digest(self) -> str | None:
        """The digest of the target."""
        return None if self.target is None else str(self.target.get("digest"))

    @classmethod
    def of(cls, document: Any) -> Self:
        """Read an origin from its JSON.

        Raises:
            ValueError: it is not one.
        """
        try:
            if not is_shallow(document):
                raise ValueError("it is nested too deep")
            target = document.get("target")
            if target is not None:
                check_digest(target["digest"])
            return cls(
                target,
                {ImageID(image): check_digest(digest) for image, digest in document.get("images", {}).items()},
                {str(key): str(value) for key, value in document.get("annotations", {}).items()},
                tuple(
                    Referrer(check_digest(one["subject"]), {**one["descriptor"], "digest": _referrer_digest(one)})
                    for one in document.get("referrers", ())
                ),
                tuple(map(check_digest, document.get("documents", ()))),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an origin: {error}") from None

    def document(self) -> dict[str, Any]:
        """Return the JSON; `of` reads it."""
        parts: dict[str, Any] = {
            "target": self.target,
            "images": dict(self.images),
            "annotations": dict(self.annotations),
            "referrers": [{"subject": one.subject, "descriptor": dict(one.descriptor)} for one in self.referrers],
            "documents": list(self.documents),
        }
        return {key: value for key, value in parts.items() if value}


#: The origins of names: by name, and by the image that Docker's list has for the name.
NameOrigins = dict[str, dict[ImageID, Origin]]


def is_shallow(document: Any) -> bool:
    """Return whether parsed JSON is nested at most `MAX_DEPTH` deep, so that it can be written wherever it is used."""
    level = [document]
    for _ in range(MAX_DEPTH):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        if not inner:
            return True
        level = [item for items in inner for item in items]
    return False


def encode(document: Any) -> bytes:
    """Return the JSON of origins as it is written."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n"
    # A lone surrogate is not UTF-8. JSON can hold it as an escape, which is what this error handler writes.
    return text.encode("utf-8", "backslashreplace")


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of some bytes, `<algorithm>:<hex>`."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def check_digest(digest: object) -> str:
    """Return a digest that is a sha256 or a sha512.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{str(digest)[:80]!r} is not a sha256 or sha512 digest")
    return digest


def _referrer_digest(one: Mapping[str, Any]) -> str:
    return check_digest(one["descriptor"]["digest"])
