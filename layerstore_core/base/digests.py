"""Identity of layers and images: diff IDs, chain IDs, image IDs.

A *diff ID* is the sha256 of a layer's uncompressed tar. A *chain ID* identifies that layer together with all its
parents, so that equal chains are stored once. The rule is in the OCI image specification ("Layer ChainID" in
`config.md`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Final, Self

_DIGEST: Final = r"sha256:[0-9a-f]{64}"


class _Digest(str):
    """A `sha256:<64 lower-case hex digits>` string. The subclass says what it is the digest of."""

    __slots__ = ()
    _what: ClassVar[str] = "digest"

    def __new__(cls, value: str) -> Self:
        if not re.fullmatch(_DIGEST, value):
            raise ValueError(f"not a {cls._what}: {value[:300]!r}; expected sha256:<64 lower-case hex digits>")
        return super().__new__(cls, value)

    @classmethod
    def from_hex(cls, hexdigits: str) -> Self:
        """Make a digest from its 64 hex digits.

        Raises:
            ValueError: `hexdigits` is anything else.
        """
        return cls(f"sha256:{hexdigits}")

    @classmethod
    def trusted(cls, value: str) -> Self:
        """Make a digest from a string that was checked before: a fast path for tens of thousands of layers."""
        return super().__new__(cls, value)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return the sha256 of `data`."""
        import hashlib  # lazy: to load OpenSSL takes a fortieth of a short command, and few of these need it

        # A digest by hashlib has the right form, so it is not checked.
        return super().__new__(cls, f"sha256:{hashlib.sha256(data).hexdigest()}")

    @property
    def hex(self) -> str:
        """The 64 hex digits, without the algorithm."""
        return self[len("sha256:") :]


class DiffID(_Digest):
    """The digest of one layer's uncompressed tar."""

    __slots__ = ()
    _what = "diff ID"


class ChainID(_Digest):
    """The digest that identifies a layer together with all its parents."""

    __slots__ = ()
    _what = "chain ID"


class ImageID(_Digest):
    """The digest of an image's config, which identifies the image."""

    __slots__ = ()
    _what = "image ID"


def chain_ids(diff_ids: Iterable[DiffID], parent: ChainID | None = None) -> list[ChainID]:
    """Return the chain IDs of layers that are each the parent of the next; `parent` is the parent of the first."""
    found: list[ChainID] = []
    for diff_id in diff_ids:
        parent = chain_id(diff_id, parent)
        found.append(parent)
    return found


def chain_id(diff_id: DiffID, parent: ChainID | None = None) -> ChainID:
    """Return the chain ID of the layer `diff_id` with the parent `parent` (`None`: a base layer)."""
    if parent is None:
        return ChainID(diff_id)
    return ChainID.of(f"{parent} {diff_id}".encode())
