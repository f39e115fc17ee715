"""A disk that refuses writes or reads: the call that needed them fails, and what had been promised is there."""

from __future__ import annotations

import dataclasses
import errno
import os
import random

import pytest

from tests.driver_roots import why_not as why_no_driver
from tests.reliability.failing import Task, go_through
from tests.reliability.figures import note
from tests.reliability.power import why_not
from tests.reliability.thorough import SEED, THOROUGH

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.needs_root,
    pytest.mark.timeout(3600 if THOROUGH else 300),
]


def on(*parameters):
    """For a test that has these, the last of them being the driver."""
    driver = parameters[-1]
    reason = why_no_driver(driver)
    return pytest.param(*parameters, marks=pytest.mark.skipif(bool(reason), reason=f"{driver}: {reason}"))


DRIVERS = pytest.mark.parametrize("driver", [on("vfs"), on("overlay2")])
OFTEN = pytest.mark.parametrize("for_ever", [True, False], ids=["for ever", "once"])


@DRIVERS
@OFTEN
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_at_each_write(code, for_ever, driver):
    """The call fails, or what it says is true."""
    all_of(Task("write", "ext4", driver, code, for_ever), samples=range(1, 200))


@DRIVERS
@OFTEN
def test_at_each_read(for_ever, driver):
    """An error, never wrong bytes; and neither gc nor a repair takes what cannot be read for what is not there."""
    all_of(Task("read", "ext4", driver, errno.EIO, for_ever), samples=range(1, 70))


@pytest.mark.parametrize(
    ("kind", "file_system", "driver"),
    [
        on("blocks", "ext4", "vfs"),
        on("blocks", "ext4", "overlay2"),
        on("quarters of a MiB", "btrfs", "btrfs"),
        on("inodes", "ext4-few-inodes", "vfs"),
        on("inodes", "ext4-few-inodes", "overlay2"),
    ],
)
def test_a_full_disk(kind, file_system, driver):
    """With nothing left, one block (4 KiB) or inode, two, and so on: what is there can be read, and no more is left."""
    all_of(Task(kind, file_system, driver, errno.ENOSPC, first=0), samples=range(100))


def all_of(task, samples):
    """Refuse each in turn; only the thorough mode has the time for more than two of the samples."""
    if not THOROUGH:
        numbers = random.Random(f"{SEED} {task}").sample(samples, 2)
        task = dataclasses.replace(task, numbers=tuple(numbers))
    shown = go_through(task, at_once=os.cpu_count() or 1)
    if task.kind in ("read", "write"):
        what = f"{errno.errorcode[task.code]} at a {task.kind}, {'for ever' if task.for_ever else 'once'}"
    else:
        what = f"a disk with few {task.kind} left"
    note(f"{what}: {task.driver} on {task.file_system}", shown.faults, len(shown.losses))
    assert shown.losses == []
    assert shown.faults
    if THOROUGH:
        assert shown.raised > len(samples) // 3
