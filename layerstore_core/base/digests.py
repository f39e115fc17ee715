"""Identity of layers and images: diff IDs, chain IDs, image IDs.

A *diff ID* is the sha256 of a layer's uncompressed tar. A *chain ID* names that layer on top of all
its parents, so that equal chains are stored once. The rule is the OCI image specification's
("Layer ChainID" in `config.md`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import ClassVar, Self

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


class _Digest(str):
    """A `sha256:<64 lower-case hex digits>` string; the class says what it is the digest of."""

    __slots__ = ()
    _what: ClassVar[str] = "digest"

    def __new__(cls, value: str) -> Self:
        if not _DIGEST.fullmatch(value):
            raise ValueError(f"not a {cls._what}: {value!r}; expected sha256:<64 lower-case hex digits>")
        return super().__new__(cls, value)

    @classmethod
    def from_hex(cls, hexdigits: str) -> Self:
        """Make one from the 64 hex digits alone.

        Raises:
            ValueError: `hexdigits` is anything else.
        """
        return cls(f"sha256:{hexdigits}")

    @classmethod
    def trusted(cls, value: str) -> Self:
        """Make one of what was seen to be of the right form: this is done for each of tens of thousands of layers."""
        return super().__new__(cls, value)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The sha256 of `data`."""
        # What hashlib says is of the right form: it need not be looked at.
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
    """The digest that names a layer together with all layers below it."""

    __slots__ = ()
    _what = "chain ID"


class ImageID(_Digest):
    """The digest of an image's config, which names the image."""

    __slots__ = ()
    _what = "image ID"


def chain_ids(diff_ids: Iterable[DiffID], parent: ChainID | None = None) -> list[ChainID]:
    """The chain IDs of layers that stand one on the other, the first on `parent`."""
    found: list[ChainID] = []
    for diff_id in diff_ids:
        parent = chain_id(diff_id, parent)
        found.append(parent)
    return found


def chain_id(diff_id: DiffID, parent: ChainID | None = None) -> ChainID:
    """The chain ID of the layer `diff_id` on top of `parent` (`None`: a base layer)."""
    if parent is None:
        return ChainID(diff_id)
    return ChainID.of(f"{parent} {diff_id}".encode())
