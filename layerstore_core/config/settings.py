"""The settings of a store: names, types, defaults and limits, each in this place alone.

`Settings` repeats the names as keywords for type checkers, which cannot derive them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, get_type_hints

from layerstore_core.base.paths import expanded
from layerstore_core.errors import ConfigError
from layerstore_core.rootless.rights import acts_for_root
from layerstore_core.tree.idmap import IDRange

if TYPE_CHECKING:
    from layerstore_core.config.registries import HostSettings

#: Docker's limit: 127 layers that its drivers hold, less the two of a writable layer.
DOCKER_MAX_DEPTH: Final = 125
#: The most that is written to a temporary file of an archive or a stream, in bytes.
DEFAULT_SPOOL_SIZE: Final = 64 << 30


class Settings(TypedDict, total=False):
    """The settings as keywords; see `SettingFields`."""

    root: str | os.PathLike[str]
    driver: str | None
    driver_priority: Sequence[str]
    drivers: Mapping[str, Mapping[str, Any]]
    durability: Literal["full", "none"]
    max_depth: int
    max_layer_size: int | str | None
    max_spool_size: int | str
    commit_owner: Literal["layer", "disk"]
    keep_blobs: Literal["never", "unreproducible", "always"]
    uid_map: Sequence[str]
    gid_map: Sequence[str]
    registries: Mapping[str, HostSettings | Mapping[str, Any]]
    report: Mapping[str, Mapping[str, int | float | str]]


def default_root() -> Path:
    """Return `/var/lib/layerstore` for root; for others `layerstore` in `$XDG_DATA_HOME`, or in `~/.local/share`.

    An ordinary user who is root of a user namespace is one of the others.

    Raises:
        ConfigError: there is no such variable, and no home directory.
    """
    if acts_for_root():
        return Path("/var/lib/layerstore")
    if data := os.environ.get("XDG_DATA_HOME"):
        return Path(data) / "layerstore"
    try:
        return expanded(Path("~/.local/share/layerstore"))
    except ValueError:
        raise ConfigError(
            f"root: user {os.geteuid()} has no home directory for a store to be in; name one, or set HOME"
        ) from None


def _not_empty(root: object) -> object:
    if root == "":
        raise ValueError("is empty; name a directory, '.' for the current one")
    return root


def _absolute(root: Path) -> Path:
    return Path(os.path.abspath(expanded(root)))


def _size(value: object) -> object:
    from layerstore_core.base.units import parse_size  # lazy: sizes are seldom set

    return parse_size(value) if isinstance(value, str) else value


def _hosts(value: dict[str, HostSettings]) -> dict[str, HostSettings]:
    from layerstore_core.config.registries import check_hosts  # lazy: few commands use registries

    check_hosts(value)
    return value


def _rules(value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    from layerstore_core.config.rules import check_table  # lazy: one command has rules

    return check_table(value)


def _ranges(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        parse_range(text)
    return value


# No method is generated: that would take longer at each start than all else in this module. `StoreConfig` has them.
@dataclass(init=False, repr=False, eq=False)
class SettingFields:
    """The settings of a store, as attributes of `StoreConfig`.

    Attributes:
        root: the store's directory.
        driver: the graph driver's name; `None`: the one that the store was made with, or for a new store the best one
            that works.
        driver_priority: the drivers to try, in this order, if nothing else decides; empty: as the drivers declare.
        drivers: options of drivers, by driver and name.
        durability: `"full"`: a layer survives a power cut once it is registered; `"none"`: the kernel decides when data
            reach the disk.
        max_depth: the most layers that a chain may have, if the driver supports as many. Docker opens no store with
            more than 125.
        max_layer_size: refuse a layer whose uncompressed tar is larger, in bytes; also as `"10G"`.
        max_spool_size: refuse an archive or a stream if more of it would be written to a temporary file, in bytes; also
            as `"10G"`.
        commit_owner: the owners of files in a commit, if the store lacks root's rights. `"layer"`: files of the parent
            have the owners of its tar, new files belong to root. `"disk"`: as on disk, where all belong to the user.
        keep_blobs: whether layers that came compressed are kept in that form, too, next to their files, so that `save`
            gives them back with the same digests. `"unreproducible"`: those that cannot be compressed again to the same
            bytes, which is tried when an image is loaded; `"always"`: all.
        uid_map: ranges `"container:host:length"` by which user IDs in layers are shifted on disk.
        gid_map: the same for group IDs.
        registries: mirrors, certificates and plain HTTP of registries, by host and port; see
            `layerstore_core.config.registries.HostSettings`.
        report: the rules of `layerstore report`: in the tables `fail_under` and `max`, limits by the name of a number.
    """

    # Metadata: `json` marks the settings that a variable holds as JSON. The others are for `config.validation`: limits
    # of pydantic's `Field`, and validators that run before or after.
    root: Path = field(default_factory=default_root, metadata={"before": _not_empty, "after": _absolute})
    driver: str | None = None
    driver_priority: tuple[str, ...] = field(default=(), metadata={"json": True})
    drivers: dict[str, dict[str, Any]] = field(default_factory=dict, metadata={"json": True})
    durability: Literal["full", "none"] = "full"
    max_depth: int = field(default=DOCKER_MAX_DEPTH, metadata={"ge": 1, "le": 10_000})
    max_layer_size: int | None = field(default=None, metadata={"ge": 0, "before": _size})
    max_spool_size: int = field(default=DEFAULT_SPOOL_SIZE, metadata={"ge": 0, "before": _size})
    commit_owner: Literal["layer", "disk"] = "layer"
    keep_blobs: Literal["never", "unreproducible", "always"] = "never"
    uid_map: tuple[str, ...] = field(default=(), metadata={"after": _ranges, "json": True})
    gid_map: tuple[str, ...] = field(default=(), metadata={"after": _ranges, "json": True})
    registries: dict[str, HostSettings] = field(default_factory=dict, metadata={"after": _hosts, "json": True})
    report: dict[str, dict[str, int | float | str]] = field(
        default_factory=dict, metadata={"after": _rules, "json": True}
    )


#: All settings, by name.
SETTINGS: Final = tuple(one.name for one in fields(SettingFields))
#: The settings whose variables hold one word or number each, and no JSON.
ONE_WORD: Final = tuple(one.name for one in fields(SettingFields) if not one.metadata.get("json"))


def setting_types() -> dict[str, Any]:
    """Return the types of all settings, by name."""
    from layerstore_core.config.registries import HostSettings  # lazy: few commands use registries

    return get_type_hints(SettingFields, localns={"HostSettings": HostSettings})


def parse_range(text: str) -> IDRange:
    """Return the range that `container:host:length` stands for.

    Raises:
        ValueError: the text has another form.
    """
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts) or int(parts[2]) < 1:
        raise ValueError("an ID range has the form container:host:length")
    return IDRange(*map(int, parts))
