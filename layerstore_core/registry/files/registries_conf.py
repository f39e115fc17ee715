"""The file registries.conf of podman, buildah and skopeo: containers-registries.conf(5), version 2.

The user's file counts instead of the system's. Files in registries.conf.d are read after it; a table there replaces
one with the same prefix. Of version 1, the lists of insecure and blocked registries are read. Short names are not
resolved with it: a name without a host is one of Docker Hub.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from layerstore_core.base.reference import is_registry
from layerstore_core.errors import ConfigError
from layerstore_core.registry.endpoint import Endpoint
from layerstore_core.registry.files.reading import Table, damaged, in_home, in_system, read_toml
from layerstore_core.registry.files.servers import RegistrySettings, reach

_FILE_VARIABLE: Final = "CONTAINERS_REGISTRIES_CONF"
_FORM: Final = "HOST[:PORT][/PATH], without a scheme"
_USAGES: Final = {"": (True, True), "all": (True, True), "digest-only": (False, True), "tag-only": (True, False)}


@dataclass(frozen=True, slots=True)
class _Place:
    """A place to read from: where, and whether by tag and by digest."""

    location: str
    insecure: bool
    tags: bool = True
    digests: bool = True


@dataclass(frozen=True, slots=True)
class _Rule:
    """A table `[[registry]]`."""

    path: Path
    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[_Place, ...]

    def matched(self, name: str) -> str | None:
        """Return the beginning of a name, `HOST/REPOSITORY`, that the prefix means; `None` if it means another one."""
        if self.prefix.startswith("*."):
            host = name.partition("/")[0]
            return host if host.endswith(self.prefix[1:]) else None
        if name == self.prefix or name.startswith(f"{self.prefix}/"):
            return self.prefix
        if self.prefix.startswith((f"{name}:", f"{name}@")) and "/" in name:
            raise damaged(self.path, f"the prefix {self.prefix!r} names one tag or digest, which is not supported")
        return None


def registries_conf_files() -> list[Path]:
    """Return the files that are in force and exist, in the order in which they are read."""
    return [path for path in _files() if os.path.exists(path)]


def endpoints(host: str, repository: str, settings: RegistrySettings) -> list[Endpoint] | None:
    """Return where the requests for a repository go; `None` if no table is for it.

    Raises:
        ConfigError: a file is damaged, or the repository is blocked.
    """
    name = f"{host}/{repository}".rstrip("/")
    found = [(rule, matched) for rule in _rules() if (matched := rule.matched(name)) is not None]
    if not found:
        return None
    rule, matched = max(found, key=lambda one: len(one[0].prefix))
    if rule.blocked:
        raise ConfigError(
            f"{name} is blocked by {rule.path} (prefix {rule.prefix!r}); remove 'blocked' there, or name {host} in a "
            f'table [registries."{host}"] of the configuration of layerstore, which goes before that file'
        )
    applied = f"{rule.path} (prefix {rule.prefix})"
    prefix = matched.partition("/")[2]
    moved = bool(rule.location) and rule.location != matched
    places = [*rule.mirrors, *([_Place(rule.location, rule.insecure)] if moved else [])]
    made: list[Endpoint] = []
    for place in places:
        server, _, path = place.location.partition("/")
        if not is_registry(server):
            raise damaged(rule.path, f"the location {place.location!r} is not of the form {_FORM}")
        if prefix and prefix == repository and not path:
            raise damaged(rule.path, f"the location {place.location!r} leaves no name for {name}")
        made += reach(
            server,
            settings,
            applied,
            insecure=place.insecure,
            mirror=True,
            tags=place.tags,
            digests=place.digests,
            prefix=prefix,
            replacement=path.strip("/"),
        )
    # Reading goes to the location; writing does not, as in podman.
    return [*made, *reach(host, settings, applied, insecure=rule.insecure, tags=not moved, digests=not moved)]


def _files() -> Iterator[Path]:
    user = in_home(".config", "containers", "registries.conf")
    named = os.environ.get(_FILE_VARIABLE)
    own = not named and bool(user) and os.path.exists(user[0])
    yield Path(named) if named else user[0] if own else in_system("containers", "registries.conf")
    system = [] if own else [in_system("containers", "registries.conf.d")]
    for directory in (*system, *in_home(".config", "containers", "registries.conf.d")):
        try:
            names = os.listdir(directory) if os.path.isdir(directory) else []
        except OSError as error:
            raise damaged(directory, f"it cannot be read: {error.strerror}") from None
        yield from (directory / name for name in sorted(names) if name.endswith(".conf"))


def _rules() -> Iterable[_Rule]:
    rules: dict[str, _Rule] = {}
    named = os.environ.get(_FILE_VARIABLE)
    for path in _files():
        document = read_toml(path, needed=True)
        if document is None:
            if named and path == Path(named):
                raise ConfigError(f"{path}: there is no such file, which {_FILE_VARIABLE} names")
            continue
        table = Table(path, document)
        for rule in (*map(_rule, table.tables("registry")), *_old_rules(table)):
            rules[rule.prefix] = rule
    return rules.values()


def _rule(table: Table) -> _Rule:
    location = table.text("location").rstrip("/")
    prefix = table.text("prefix").rstrip("/") or location
    if not prefix:
        table.refuse("prefix", "is missing, and so is location")
    if not location and not prefix.startswith("*."):
        table.refuse("location", f"is missing for the prefix {prefix!r}")
    by_digest = table.flag("mirror-by-digest-only")
    mirrors = []
    for mirror in table.tables("mirror"):
        usage = mirror.text("pull-from-mirror")
        if usage not in _USAGES:
            mirror.refuse("pull-from-mirror", f"is {usage!r}, and not all, digest-only or tag-only")
        if by_digest and usage:
            mirror.refuse("pull-from-mirror", "cannot stand beside mirror-by-digest-only of the registry")
        tags, digests = (False, True) if by_digest else _USAGES[usage]
        mirrors.append(_Place(mirror.text("location").rstrip("/"), mirror.flag("insecure"), tags, digests))
    return _Rule(table.path, prefix, location, table.flag("insecure"), table.flag("blocked"), tuple(mirrors))


def _old_rules(table: Table) -> Iterator[_Rule]:
    """Yield what version 1 says: lists of insecure and of blocked registries."""
    old = table.table("registries")
    insecure = old.table("insecure").texts("registries") or []
    blocked = old.table("block").texts("registries") or []
    for name in dict.fromkeys([*insecure, *blocked]):
        yield _Rule(table.path, name, name, name in insecure, name in blocked, ())
