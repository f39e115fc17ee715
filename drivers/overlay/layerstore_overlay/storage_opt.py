"""The storage options of single layers."""

from __future__ import annotations

from collections.abc import Mapping

from layerstore_core import parse_size
from layerstore_core.errors import ConfigError


def layer_size(storage_opt: Mapping[str, str], default: int | None) -> int | None:
    """Return the size limit of a writable layer in bytes; `None` for no limit.

    Args:
        storage_opt: the layer's options.
        default: the limit if the options have none.

    Raises:
        ConfigError: an option is unknown, or its value is no size.
    """
    refuse_unknown(storage_opt, "size")
    if "size" not in storage_opt:
        return default
    try:
        size = parse_size(storage_opt["size"])
    except ValueError as error:
        raise ConfigError(f"storage option size: {error}") from error
    if size <= 0:
        raise ConfigError("storage option size: it must be more than 0; leave the option out for no limit")
    return size


def refuse_unknown(storage_opt: Mapping[str, str], *known: str) -> None:
    """Raise `ConfigError` if `storage_opt` has an option that is not in `known`."""
    unknown = sorted(set(storage_opt) - set(known))
    if unknown:
        allowed = ", ".join(known) if known else "none for a read-only layer"
        raise ConfigError(f"driver overlay2 has no storage option {', '.join(unknown)} (it has: {allowed})")
