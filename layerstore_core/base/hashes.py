"""Hashes of a few bytes, without OpenSSL: to load that takes as long as to hash a megabyte without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hashlib import blake2b, sha256
else:
    try:
        from _blake2 import blake2b

        try:
            from _sha256 import sha256  # Python 3.11
        except ImportError:
            from _sha2 import sha256  # Python 3.12 and later
    except ImportError:  # a Python that is built in another way
        from hashlib import blake2b, sha256

__all__ = ["blake2b", "sha256_hex"]

#: From this number of bytes on, OpenSSL's code for this processor is worth loading.
_LARGE: Final = 1 << 16


def sha256_hex(data: bytes) -> str:
    """Return the sha256 of some bytes as 64 hex digits."""
    if len(data) >= _LARGE:
        from hashlib import sha256 as quick_sha256

        return quick_sha256(data).hexdigest()
    return sha256(data).hexdigest()
