"""The storage options of single layers."""

from __future__ import annotations

from collections.abc import Mapping

from layerstore_core import parse_size
from layerstore_core.errors import ConfigError


def layer_size(storage_opt: Mapping[str, str], min_space: int) -> int | None:
    """Return the size limit of a layer in bytes; `None` for no limit.

    Args:
        storage_opt: the layer's options; `size` is the only known one.
        min_space: the smallest allowed size, in bytes.

    Raises:
        ConfigError: an option is unknown, or the size is bad or too small.
    """
    size: int | None = None
    for key, text in storage_opt.items():
        if key.lower() != "size":
            raise ConfigError(
                f"storage option {key!r}: the btrfs driver does not know this option; it knows only `size`"
            )
        try:
            size = parse_size(text)
        except ValueError as error:
            raise ConfigError(f"storage option {key!r}: {error}") from error
        if size == 0:
            raise ConfigError(
                f"storage option {key!r}: the size must be more than 0; leave the option out for no limit"
            )
        if size < min_space:
            raise ConfigError(
                f"storage option {key!r}: {text} ({size} bytes) is below the driver's min_space of {min_space} bytes"
            )
    return size
