"""Limits for untrusted input, as the settings define them. An error message names the setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol, Self

#: How much larger a compressed layer may be than its tar: a 64th of it, since data that cannot be compressed grows by
#: less, and some bytes more.
_GROWTH_DIVISOR: Final = 64
_MIN_GROWTH: Final = 64 << 10


class Limit(NamedTuple):
    """The largest size of some input.

    Attributes:
        bytes: the size, in bytes.
        setting: the name of the setting that defines it.
        source: the source of the setting, as in `StoreConfig.sources`.
    """

    bytes: int
    setting: str
    source: str

    @property
    def compressed(self) -> int:
        """The largest size of the input in bytes, compressed or not, whose uncompressed size is within the limit."""
        return compressed_limit(self.bytes)

    def __str__(self) -> str:
        return f"the limit of {self.bytes} bytes (setting {self.setting}, from {self.source})"


def compressed_limit(size: int) -> int:
    """Return the largest size of a compressed layer whose tar has `size` bytes, in bytes."""
    return size + size // _GROWTH_DIVISOR + _MIN_GROWTH


class LimitSettings(Protocol):
    """The settings that define limits: see `StoreConfig`."""

    @property
    def max_layer_size(self) -> int | None: ...

    @property
    def max_spool_size(self) -> int: ...

    @property
    def sources(self) -> Mapping[str, str]: ...


class Limits(NamedTuple):
    """The limits of one store.

    Attributes:
        spool: the limit for temporary files of one input.
        layer: the limit for a layer's uncompressed tar; `None` for no limit.
    """

    spool: Limit
    layer: Limit | None = None

    @classmethod
    def of(cls, config: LimitSettings) -> Self:
        """Return the limits that a store's settings define."""
        layer = config.max_layer_size
        return cls(
            Limit(config.max_spool_size, "max_spool_size", config.sources["max_spool_size"]),
            None if layer is None else Limit(layer, "max_layer_size", config.sources["max_layer_size"]),
        )
