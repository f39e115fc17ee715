"""What clients are told about errors."""

from __future__ import annotations

import errno

import grpc
import pytest
from layerstore_containerd.filters import InvalidFilter
from layerstore_containerd.refusals import refusal_of

from layerstore_core import errors


@pytest.mark.parametrize(
    ("error", "status", "is_ours"),
    [
        (errors.SnapshotDoesNotExist("x"), "NOT_FOUND", False),
        (errors.SnapshotExists("x"), "ALREADY_EXISTS", False),
        (errors.SnapshotHasChildren("x"), "FAILED_PRECONDITION", False),
        (errors.WrongSnapshotKind("x"), "FAILED_PRECONDITION", False),
        (errors.MaxDepthExceeded("x"), "FAILED_PRECONDITION", False),
        (errors.InvalidSnapshot("x"), "INVALID_ARGUMENT", False),
        (InvalidFilter("x"), "INVALID_ARGUMENT", False),
        (errors.SnapshotsInUse("x"), "UNAVAILABLE", False),
        (errors.RootInUse("x"), "UNAVAILABLE", False),
        (errors.IntegrityError("x"), "INTERNAL", True),
        (OSError(errno.ENOSPC, "No space left on device"), "RESOURCE_EXHAUSTED", True),
        (OSError(errno.EACCES, "Permission denied"), "PERMISSION_DENIED", True),
        (OSError(errno.EIO, "Input/output error"), "INTERNAL", True),
        (ZeroDivisionError("x"), "INTERNAL", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_error_has_the_code_that_containerd_expects(error: Exception, status: str, is_ours: bool) -> None:
    refusal = refusal_of(error)
    assert (refusal.code, refusal.is_ours) == (grpc.StatusCode[status], is_ours)


def test_error_of_the_system_is_told_with_path_and_note() -> None:
    error = OSError(errno.EIO, "Input/output error", "/a", None, "/b")
    error.add_note("while reading")
    assert refusal_of(error).message == "/a: /b: Input/output error (while reading)"


def test_unexpected_error_is_named() -> None:
    assert refusal_of(KeyError("x")).message == "unexpected KeyError: 'x'"
    assert refusal_of(AssertionError()).message == "unexpected AssertionError"


def test_long_message_keeps_its_ends_and_half_characters_are_escaped() -> None:
    message = refusal_of(errors.SnapshotExists("begin" + "\ud800" * 10_000 + "end")).message
    assert len(message.encode()) < 2100
    assert message.startswith("begin\\ud800")
    assert message.endswith("end")
