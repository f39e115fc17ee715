"""Read the server's list of snapshots from its socket, by the numbers of the fields, without the bridge's own code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

_LIST = "/containerd.services.snapshots.v1.Snapshots/List"
_KINDS = {1: "View", 2: "Active", 3: "Committed"}
_REF = "containerd.io/snapshot.ref"


@dataclass(frozen=True)
class Listed:
    """A snapshot as the server lists it: `name` and `parent` are names with name space and number, as it got them."""

    name: str
    parent: str
    kind: str
    labels: dict[str, str]

    @property
    def plain(self) -> str:
        """The name in containerd's lists: without name space and number; for a layer of the store, from its label."""
        return self.labels.get(_REF) or self.name.split("/", 2)[-1]


def listed(address: Path) -> list[Listed]:
    """Return all snapshots of a server."""
    with grpc.insecure_channel(f"unix:{address}") as channel:
        answers = channel.unary_stream(_LIST, request_serializer=bytes, response_deserializer=bytes)(b"", timeout=30)
        return [_info(info) for answer in answers for number, info in _fields(answer) if number == 1]


def as_containerd_lists(address: Path) -> dict[str, tuple[str, str]]:
    """Return the server's list in the form of `Containerd.snapshots`: parents and kinds by plain names."""
    found = listed(address)
    names = {snapshot.name: snapshot.plain for snapshot in found}
    assert len(set(names.values())) == len(names), f"two snapshots have one name: {names}"
    return {one.plain: (names[one.parent] if one.parent else "", one.kind) for one in found}


def _info(data: bytes) -> Listed:
    name = parent = ""
    kind, labels = 0, {}
    for number, value in _fields(data):
        if number == 1:
            name = value.decode()
        elif number == 2:
            parent = value.decode()
        elif number == 3:
            kind = value
        elif number == 6:
            entry = {key: text.decode() for key, text in _fields(value)}
            labels[entry.get(1, "")] = entry.get(2, "")
    return Listed(name, parent, _KINDS[kind], labels)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a message of protobuf: numbers, and bytes or integers."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
            continue
        assert tag & 7 == 2, f"field {tag >> 3} has wire type {tag & 7}"
        length = varint()
        yield tag >> 3, data[at : at + length]
        at += length
