"""Settings that need no validation: a root, a driver's name, a durability, and nothing else.

Nearly all commands are run with these, and would start by loading pydantic for them, which takes longer than a small
layer to be exported. Whatever else is set, in whatever way, is for `config`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Unpack, cast

from layerstore_core.config.sources import (
    DEFAULT_SPOOL_SIZE,
    DOCKER_MAX_DEPTH,
    SETTINGS,
    Settings,
    default_root,
    files,
    plain_environment,
    variable,
)
from layerstore_core.tree.idmap import IDMapping

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig

_PLAIN: Final = frozenset({"root", "driver", "durability"})


@dataclass(frozen=True)
class PlainConfig:
    """What can be asked of a `StoreConfig`, where no other settings were made than these.

    Attributes:
        given: where those came from that were made, by name.
    """

    root: Path
    driver: str | None
    durability: Literal["full", "none"]
    given: Mapping[str, str]

    driver_priority: ClassVar[tuple[str, ...]] = ()
    drivers: ClassVar[Mapping[str, dict[str, Any]]] = {}
    max_depth: ClassVar[int] = DOCKER_MAX_DEPTH
    max_layer_size: ClassVar[int | None] = None
    max_spool_size: ClassVar[int] = DEFAULT_SPOOL_SIZE
    commit_owner: ClassVar[Literal["layer", "disk"]] = "layer"
    uid_map: ClassVar[tuple[str, ...]] = ()
    gid_map: ClassVar[tuple[str, ...]] = ()
    id_mapping: ClassVar[IDMapping] = IDMapping()

    @property
    def sources(self) -> Mapping[str, str]:
        """As `StoreConfig.sources`."""
        return {name: self.given.get(name, "default") for name in SETTINGS}

    def options_of(self, driver: str, *aliases: str) -> dict[str, Any]:
        """As `StoreConfig.options_of`: none."""
        return {}

    def document(self) -> dict[str, Any]:
        """As `StoreConfig.document`."""
        values = {name: getattr(self, name) for name in SETTINGS}
        values["root"] = str(self.root)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def with_overrides(self, **overrides: Unpack[Settings]) -> StoreConfig:
        """As `StoreConfig.with_overrides`; errors too."""
        from layerstore_core.config.model import build

        given = {name: getattr(self, name) for name in self.given}
        return build([(overrides, dict.fromkeys(overrides, "argument")), (given, self.given)])


def usual_config(root: Path) -> StoreConfig:
    """The usual settings, for a root."""
    return cast("StoreConfig", PlainConfig(root, None, "full", {}))


def plain_config(
    file: Path | None, *, driver_options: Mapping[str, Any] | None = None, **overrides: Unpack[Settings]
) -> StoreConfig | None:
    """What `load_config` gives, quickly, where there is nothing in it to be validated.

    Args:
        file: as for `load_config`; as are the others.

    Returns:
        A `PlainConfig`, which can be asked the same as the other; `None` where `load_config` has to be called.
    """
    environment = plain_environment()
    if environment is None or driver_options or files(file):
        return None
    made = {**environment, **overrides}
    if not made.keys() <= _PLAIN:
        return None
    root, driver, durability = made.get("root"), made.get("driver"), made.get("durability", "full")
    if "root" not in made:
        root = default_root()
    elif isinstance(root, str | Path) and str(root)[:1] not in ("", "~"):
        root = Path(os.path.abspath(Path(root)))
    else:
        return None
    if not (driver is None or isinstance(driver, str)) or durability not in ("full", "none"):
        return None
    given = {name: "argument" if name in overrides else f"environment {variable(name)}" for name in made}
    return cast("StoreConfig", PlainConfig(root, driver, durability, given))
