"""How much of untrusted input is taken in: the limits that settings make, and what to tell whoever meets one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, Self

#: What a compressed layer may have more than its tar: what compresses badly grows by less than a 64th.
_GROWTH: Final = 64
_LEAST: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of bytes that input may have.

    Attributes:
        bytes: the number.
        setting: what sets it.
        source: where the setting came from, as `StoreConfig.sources` has it.
    """

    bytes: int
    setting: str
    source: str

    @property
    def compressed(self) -> int:
        """How many bytes may come in, compressed or not, for so many plain ones."""
        return self.bytes + self.bytes // _GROWTH + _LEAST

    def __str__(self) -> str:
        return f"the limit of {self.bytes} bytes (setting {self.setting}, from {self.source})"


class LimitSettings(Protocol):
    """The settings that make limits: see `StoreConfig`."""

    @property
    def max_layer_size(self) -> int | None: ...

    @property
    def max_spool_size(self) -> int: ...

    @property
    def sources(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one store.

    Attributes:
        spool: of what is written to temporary files for one input.
        layer: of a layer's uncompressed tar; `None` for none.
    """

    spool: Limit
    layer: Limit | None = None

    @classmethod
    def of(cls, config: LimitSettings) -> Self:
        """The limits that a store's settings make."""
        layer = config.max_layer_size
        return cls(
            Limit(config.max_spool_size, "max_spool_size", config.sources["max_spool_size"]),
            None if layer is None else Limit(layer, "max_layer_size", config.sources["max_layer_size"]),
        )
