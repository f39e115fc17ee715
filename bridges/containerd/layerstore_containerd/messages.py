"""The messages of containerd's snapshot service, and the names of its calls.

The tables below hold the facts of containerd's API: `api/services/snapshots/v1/snapshots.proto` and
`api/types/mount.proto`. Messages are made from them when this module is imported. Code that protoc writes would be tied
to the version of protobuf that it was made with. They are in a pool of their own: a program may import generated code
for the same messages as well as this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import descriptor_pool, empty_pb2, field_mask_pb2, message_factory, timestamp_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

#: The full name of the service.
SERVICE: Final = "containerd.services.snapshots.v1.Snapshots"

_PACKAGE: Final = "containerd.services.snapshots.v1"
_MOUNT: Final = ".containerd.types.Mount"
_INFO: Final = f".{_PACKAGE}.Info"
_KIND: Final = f"enum .{_PACKAGE}.Kind"
_TIMESTAMP: Final = ".google.protobuf.Timestamp"
#: The kinds of snapshots, by number.
_KINDS: Final = {"UNKNOWN": 0, "VIEW": 1, "ACTIVE": 2, "COMMITTED": 3}

#: Fields of a message: name, number, type. A type with a dot is another message; `[]` marks a list, `{}` a map of
#: strings.
_Fields = tuple[tuple[str, int, str], ...]
_NEW_SNAPSHOT: Final[_Fields] = (
    ("snapshotter", 1, "string"),
    ("key", 2, "string"),
    ("parent", 3, "string"),
    ("labels", 4, "{}"),
)
_KEY: Final[_Fields] = (("snapshotter", 1, "string"), ("key", 2, "string"))
_MOUNTS: Final[_Fields] = (("mounts", 1, f"[]{_MOUNT}"),)
_ONE_INFO: Final[_Fields] = (("info", 1, _INFO),)
_MESSAGES: Final[dict[str, _Fields]] = {
    "Info": (
        ("name", 1, "string"),
        ("parent", 2, "string"),
        ("kind", 3, _KIND),
        ("created_at", 4, _TIMESTAMP),
        ("updated_at", 5, _TIMESTAMP),
        ("labels", 6, "{}"),
    ),
    "PrepareSnapshotRequest": _NEW_SNAPSHOT,
    "PrepareSnapshotResponse": _MOUNTS,
    "ViewSnapshotRequest": _NEW_SNAPSHOT,
    "ViewSnapshotResponse": _MOUNTS,
    "MountsRequest": _KEY,
    "MountsResponse": _MOUNTS,
    "RemoveSnapshotRequest": _KEY,
    "CommitSnapshotRequest": (
        ("snapshotter", 1, "string"),
        ("name", 2, "string"),
        ("key", 3, "string"),
        ("labels", 4, "{}"),
        # Since containerd 2.1: the parent that the snapshot is to get with this commit.
        ("parent", 5, "string"),
    ),
    "StatSnapshotRequest": _KEY,
    "StatSnapshotResponse": _ONE_INFO,
    "UpdateSnapshotRequest": (
        ("snapshotter", 1, "string"),
        ("info", 2, _INFO),
        ("update_mask", 3, ".google.protobuf.FieldMask"),
    ),
    "UpdateSnapshotResponse": _ONE_INFO,
    "ListSnapshotsRequest": (("snapshotter", 1, "string"), ("filters", 2, "[]string")),
    "ListSnapshotsResponse": (("info", 1, f"[]{_INFO}"),),
    "UsageRequest": _KEY,
    "UsageResponse": (("size", 1, "int64"), ("inodes", 2, "int64")),
    "CleanupRequest": (("snapshotter", 1, "string"),),
}
_TYPES: Final = {"string": FieldDescriptorProto.TYPE_STRING, "int64": FieldDescriptorProto.TYPE_INT64}


def _field(name: str, number: int, kind: str) -> FieldDescriptorProto:
    repeated = kind.startswith("[]")
    kind = kind.removeprefix("[]")
    field = FieldDescriptorProto(
        name=name,
        number=number,
        label=FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL,
    )
    if kind in _TYPES:
        field.type = _TYPES[kind]
    elif kind.startswith("enum "):
        field.type, field.type_name = FieldDescriptorProto.TYPE_ENUM, kind.removeprefix("enum ")
    else:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, kind
    return field


def _message(package: str, name: str, fields: _Fields) -> DescriptorProto:
    message = DescriptorProto(name=name)
    for field, number, kind in fields:
        if kind == "{}":
            # On the wire, a map is a list of pairs. The name of the pair's type follows from that of the field.
            pair = DescriptorProto(name=f"{field.capitalize()}Entry")
            pair.options.map_entry = True
            pair.field.extend((_field("key", 1, "string"), _field("value", 2, "string")))
            message.nested_type.append(pair)
            kind = f"[].{package}.{name}.{pair.name}"
        message.field.append(_field(field, number, kind))
    return message


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    imported = []
    for module in (empty_pb2, field_mask_pb2, timestamp_pb2):
        document = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(document)
        pool.Add(document)
        imported.append(document.name)
    mount: _Fields = (
        ("type", 1, "string"),
        ("source", 2, "string"),
        ("target", 3, "string"),
        ("options", 4, "[]string"),
    )
    types = FileDescriptorProto(name="types/mount.proto", package="containerd.types", syntax="proto3")
    types.message_type.append(_message(types.package, "Mount", mount))
    pool.Add(types)
    service = FileDescriptorProto(name="snapshots.proto", package=_PACKAGE, syntax="proto3")
    service.dependency.extend((*imported, types.name))
    kinds = service.enum_type.add(name="Kind")
    for kind, number in _KINDS.items():
        kinds.value.add(name=kind, number=number)
    service.message_type.extend(_message(_PACKAGE, name, fields) for name, fields in _MESSAGES.items())
    pool.Add(service)
    return pool


_POOL: Final = _pool()


def _class(name: str) -> Any:
    """Return the class of a message, by its full name."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


Mount: Final = _class("containerd.types.Mount")
Info: Final = _class(f"{_PACKAGE}.Info")
Empty: Final = _class("google.protobuf.Empty")
#: The numbers of the kinds in `Info.kind`.
KIND_VIEW: Final = _KINDS["VIEW"]
KIND_ACTIVE: Final = _KINDS["ACTIVE"]
KIND_COMMITTED: Final = _KINDS["COMMITTED"]


@dataclass(frozen=True)
class Call:
    """One call of the service.

    Attributes:
        name: the name of the call.
        request: the class of its request.
        answer: the class of its answer.
        streams: whether the answer comes in parts.
    """

    name: str
    request: Any
    answer: Any
    streams: bool = False

    @property
    def path(self) -> str:
        """The path of the call in HTTP/2, as gRPC makes it."""
        return f"/{SERVICE}/{self.name}"


def _calls() -> dict[str, Call]:
    table = {
        "Prepare": ("PrepareSnapshotRequest", "PrepareSnapshotResponse"),
        "View": ("ViewSnapshotRequest", "ViewSnapshotResponse"),
        "Mounts": ("MountsRequest", "MountsResponse"),
        "Commit": ("CommitSnapshotRequest", None),
        "Remove": ("RemoveSnapshotRequest", None),
        "Stat": ("StatSnapshotRequest", "StatSnapshotResponse"),
        "Update": ("UpdateSnapshotRequest", "UpdateSnapshotResponse"),
        "List": ("ListSnapshotsRequest", "ListSnapshotsResponse"),
        "Usage": ("UsageRequest", "UsageResponse"),
        "Cleanup": ("CleanupRequest", None),
    }
    return {
        name: Call(
            name,
            _class(f"{_PACKAGE}.{request}"),
            _class(f"{_PACKAGE}.{answer}") if answer else Empty,
            streams=name == "List",
        )
        for name, (request, answer) in table.items()
    }


#: The calls of the service, by name.
CALLS: Final = _calls()
