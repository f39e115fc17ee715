"""The messages of the service: their bytes on the wire, as containerd's own code reads and writes them."""

from __future__ import annotations

import pytest
from google.protobuf import timestamp_pb2
from layerstore_containerd import messages
from layerstore_containerd.messages import CALLS, SERVICE, Empty, Info, Mount


def text(number: int, value: str) -> bytes:
    """A string on the wire: the field's number and type 2, the length, the bytes."""
    data = value.encode()
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def test_the_service_has_the_calls_of_containerd() -> None:
    assert SERVICE == "containerd.services.snapshots.v1.Snapshots"
    assert sorted(CALLS) == [
        "Cleanup", "Commit", "List", "Mounts", "Prepare", "Remove", "Stat", "Update", "Usage", "View",
    ]  # fmt: skip
    assert CALLS["Commit"].path == "/containerd.services.snapshots.v1.Snapshots/Commit"
    assert [call.name for call in CALLS.values() if call.streams] == ["List"]
    assert {call.name for call in CALLS.values() if call.answer is Empty} == {"Commit", "Remove", "Cleanup"}


def test_a_request_has_containerds_field_numbers() -> None:
    request = CALLS["Prepare"].request(snapshotter="ls", key="k 1", parent="p", labels={"a/b": "c"})
    pair = text(1, "a/b") + text(2, "c")
    expected = text(1, "ls") + text(2, "k 1") + text(3, "p") + bytes([4 << 3 | 2, len(pair)]) + pair
    assert request.SerializeToString() == expected
    assert CALLS["View"].request.FromString(expected).labels == {"a/b": "c"}


@pytest.mark.parametrize("call", ["Mounts", "Remove", "Stat", "Usage"])
def test_requests_for_one_snapshot_have_its_key_in_field_two(call: str) -> None:
    assert CALLS[call].request.FromString(text(1, "ls") + text(2, "key")).key == "key"


def test_a_commit_has_the_new_name_before_the_key() -> None:
    request = CALLS["Commit"].request.FromString(text(2, "name") + text(3, "key") + text(5, "parent"))
    assert (request.name, request.key, request.parent) == ("name", "key", "parent")


def test_a_mount_has_containerds_field_numbers() -> None:
    mount = Mount(type="overlay", source="overlay", options=["a", "b"])
    assert mount.SerializeToString() == text(1, "overlay") + text(2, "overlay") + text(4, "a") + text(4, "b")


def test_an_info_has_kind_times_and_labels() -> None:
    info = Info(name="n", parent="p", kind=messages.KIND_COMMITTED, labels={"l": "v"})
    info.created_at.seconds, info.created_at.nanos = 100, 7
    info.updated_at.seconds = 101
    created, updated = bytes([0x08, 100, 0x10, 7]), bytes([0x08, 101])
    pair = text(1, "l") + text(2, "v")
    expected = (
        text(1, "n") + text(2, "p") + bytes([3 << 3, 3])
        + bytes([4 << 3 | 2, len(created)]) + created
        + bytes([5 << 3 | 2, len(updated)]) + updated
        + bytes([6 << 3 | 2, len(pair)]) + pair
    )  # fmt: skip
    assert info.SerializeToString() == expected
    assert timestamp_pb2.Timestamp.FromString(info.created_at.SerializeToString()).seconds == 100


@pytest.mark.parametrize(("kind", "number"), [("KIND_VIEW", 1), ("KIND_ACTIVE", 2), ("KIND_COMMITTED", 3)])
def test_kinds_have_containerds_numbers(kind: str, number: int) -> None:
    assert Info(kind=getattr(messages, kind)).SerializeToString() == bytes([3 << 3, number])


def test_an_update_names_the_snapshot_in_its_info() -> None:
    info, mask = text(1, "key"), text(1, "labels.a")
    data = bytes([2 << 3 | 2, len(info)]) + info + bytes([3 << 3 | 2, len(mask)]) + mask
    request = CALLS["Update"].request.FromString(data)
    assert (request.info.name, list(request.update_mask.paths)) == ("key", ["labels.a"])


def test_a_list_has_filters_and_answers_several_infos() -> None:
    assert list(CALLS["List"].request.FromString(text(2, "a") + text(2, "b")).filters) == ["a", "b"]
    answer = CALLS["List"].answer(info=[Info(name="x"), Info(name="y")])
    one, two = text(1, "x"), text(1, "y")
    assert answer.SerializeToString() == bytes([10, len(one)]) + one + bytes([10, len(two)]) + two


def test_usage_is_size_and_inodes() -> None:
    assert CALLS["Usage"].answer(size=5, inodes=3).SerializeToString() == bytes([8, 5, 16, 3])


def test_unknown_fields_of_newer_clients_are_no_error() -> None:
    assert CALLS["Cleanup"].request.FromString(text(1, "ls") + text(15, "later")).snapshotter == "ls"
