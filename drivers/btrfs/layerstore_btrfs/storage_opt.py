"""What can be set for single layers."""

from __future__ import annotations

from collections.abc import Mapping

from layerstore_core import parse_size
from layerstore_core.errors import ConfigError


def layer_size(storage_opt: Mapping[str, str], min_space: int) -> int | None:
    """The size limit that the options of one layer ask for.

    Args:
        storage_opt: as the driver is given them; `size` is the only one there is.
        min_space: the least that is allowed, in bytes.

    Returns:
        Bytes, or `None` where no limit is asked for.

    Raises:
        ConfigError: an option is unknown, or the size cannot be used.
    """
    size: int | None = None
    for key, text in storage_opt.items():
        if key.lower() != "size":
            raise ConfigError(f"storage option {key!r}: the btrfs driver does not know it; it knows only `size`")
        try:
            size = parse_size(text)
        except ValueError as error:
            raise ConfigError(f"storage option {key!r}: {error}") from error
        if size == 0:
            raise ConfigError(f"storage option {key!r}: a layer of no bytes cannot be; leave it out for no limit")
        if size < min_space:
            raise ConfigError(
                f"storage option {key!r}: {text} ({size} bytes) is below the driver's min_space of {min_space} bytes"
            )
    return size
