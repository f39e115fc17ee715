"""Platforms: the systems that images run on, and which of several images runs best on one."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

#: Other names of architectures, from kernels, Debian and users of the OCI specification, with Go's name and variant.
_ARCHITECTURES: Final = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv8l": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
}
#: The variant that is meant if an architecture has none.
_DEFAULT_VARIANT: Final = {"arm": 7, "arm64": 8, "amd64": 1}
_NUMBERED = re.compile(r"v?([0-9]{1,3})", re.ASCII)
#: Added to the rank of an image that needs more than the default variant: it is chosen only if there is no other.
_NEEDS_MORE: Final = 1000
#: The longest part of a platform: it is shown in messages, and no real one is half as long.
_LONGEST: Final = 100
_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class Platform:
    """A system that an image runs on.

    Attributes:
        os: the operating system, such as `linux`.
        architecture: Go's name of the architecture, such as `amd64`.
        variant: the variant, such as `v7`; empty for any.
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `linux/arm/v7`, `linux/amd64`, or `arm64`, which means `linux/arm64`.

        Raises:
            ValueError: the text is not a platform.
        """
        parts = text.lower().split("/")
        if len(parts) == 1:
            parts = ["linux", *parts]
        if len(parts) > 3 or not all(parts):
            raise ValueError(f"{text!r} is not a platform; write it as linux/amd64 or linux/arm/v7")
        return cls._normal(*parts)

    @classmethod
    def of(cls, value: Platform | str | Sequence[str]) -> Platform:
        """Convert a value to a platform.

        Args:
            value: a platform, its text, or its two or three parts.

        Raises:
            ValueError: the text is not a platform.
            TypeError: the value has another type.
        """
        if isinstance(value, Platform):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        parts: list[object] = list(value) if isinstance(value, (list, tuple)) else []
        if len(parts) in (2, 3) and all(isinstance(part, str) for part in parts):
            return cls.parse("/".join(str(part) for part in parts if part))
        raise TypeError(f'a platform is a Platform, "linux/arm64" or ("linux", "arm64"), not {value!r}')

    @classmethod
    def of_this_host(cls) -> Self:
        """Return the platform of this machine."""
        return cls._normal("linux", platform.machine().lower())

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self | None:
        """Read the platform from a descriptor or a config; return `None` if it has no architecture."""
        os, architecture, variant = (
            found[:_LONGEST].lower() if isinstance(found := document.get(key), str) else ""
            for key in ("os", "architecture", "variant")
        )
        return cls._normal(os or "linux", architecture, variant) if architecture else None

    @property
    def known(self) -> bool:
        """Whether this is a real platform: the platform of an attestation is `unknown/unknown`."""
        return "unknown" not in (self.os, self.architecture)

    def rank(self, found: Platform) -> int | None:
        """Return how well an image for `found` runs on this platform: 0 is best, `None` is not at all.

        A processor also runs programs for a lower variant of its architecture.
        """
        if (found.os, found.architecture) != (self.os, self.architecture):
            return None
        default = _DEFAULT_VARIANT.get(self.architecture, 0)
        own, needed = _number(self.variant, default), _number(found.variant, default)
        if own is None or needed is None:
            return 0 if found.variant == self.variant else None if self.variant else 1
        if needed <= own:
            return own - needed
        return None if self.variant else _NEEDS_MORE + needed - own

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    @classmethod
    def _normal(cls, os: str, architecture: str, variant: str = "") -> Self:
        architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
        return cls(os, architecture, variant or implied)


def listed(platforms: Iterable[Platform | None]) -> str:
    """Return platforms for a message, each once, and at most 20 of them."""
    names = list(dict.fromkeys(str(platform or "unknown") for platform in platforms))
    return ", ".join([*names[:_LISTED], *(["…"] if len(names) > _LISTED else [])]) or "none"


def _number(variant: str, default: int) -> int | None:
    if not variant:
        return default
    match = _NUMBERED.fullmatch(variant)
    return int(match[1]) if match else None
