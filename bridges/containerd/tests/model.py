"""A model of what the snapshot service does, without layers: what each call changes, and how it is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace


class Refused(Exception):
    """A call is refused; its argument is the name of gRPC's status code."""


@dataclass(frozen=True)
class ModelSnapshot:
    parent: str
    kind: str
    labels: Mapping[str, str]


@dataclass
class Model:
    snapshots: dict[str, ModelSnapshot] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, ModelSnapshot]]:
        return iter(self.snapshots.items())

    def stat(self, key: str) -> ModelSnapshot:
        if not key:
            raise Refused("INVALID_ARGUMENT")
        if key not in self.snapshots:
            raise Refused("NOT_FOUND")
        return self.snapshots[key]

    def new(self, key: str, parent: str, kind: str, labels: Mapping[str, str]) -> None:
        if not key:
            raise Refused("INVALID_ARGUMENT")
        # As in containerd's own, the parent is looked at first.
        if parent and self.stat(parent).kind != "committed":
            raise Refused("INVALID_ARGUMENT")
        if key in self.snapshots:
            raise Refused("ALREADY_EXISTS")
        self.snapshots[key] = ModelSnapshot(parent, kind, labels)

    def commit(self, name: str, key: str, labels: Mapping[str, str]) -> None:
        if not name:
            raise Refused("INVALID_ARGUMENT")
        former = self.stat(key)
        # As in containerd's own, the name is looked at before the kind.
        if name in self.snapshots:
            raise Refused("ALREADY_EXISTS")
        if former.kind != "active":
            raise Refused("FAILED_PRECONDITION")
        del self.snapshots[key]
        self.snapshots[name] = replace(former, kind="committed", labels=labels)

    def remove(self, key: str) -> None:
        self.stat(key)
        if any(other.parent == key for other in self.snapshots.values()):
            raise Refused("FAILED_PRECONDITION")
        del self.snapshots[key]

    def mounts(self, key: str) -> None:
        if self.stat(key).kind == "committed":
            raise Refused("FAILED_PRECONDITION")

    def update(self, key: str, labels: Mapping[str, str], fields: Sequence[str]) -> None:
        new = dict(self.stat(key).labels)
        for name in fields or ("labels",):
            if name == "labels":
                new = dict(labels)
            elif not name.startswith("labels.") or name == "labels.":
                raise Refused("INVALID_ARGUMENT")
            elif name[7:] in labels:
                new[name[7:]] = labels[name[7:]]
            else:
                new.pop(name[7:], None)
        self.snapshots[key] = replace(self.snapshots[key], labels=new)
