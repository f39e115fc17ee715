"""Disks that refuse writes or reads: the call that needs them fails, and all promises are kept."""

from __future__ import annotations

import dataclasses
import errno
import os
import random

import pytest

from tests.driver_roots import why_not as why_no_driver
from tests.reliability.failing import Task, run_task
from tests.reliability.figures import note
from tests.reliability.power import why_not
from tests.reliability.thorough import SEED, THOROUGH

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.needs_root,
    pytest.mark.timeout(3600 if THOROUGH else 300),
]


def on(*parameters):
    """Return parameters of a test, the last of which is the driver."""
    driver = parameters[-1]
    reason = why_no_driver(driver)
    marks = [pytest.mark.skipif(bool(reason), reason=f"{driver}: {reason}")]
    if driver == "vfs":  # overlay2 does all that it does, and more
        marks.append(pytest.mark.nightly)
    return pytest.param(*parameters, marks=marks)


DRIVERS = pytest.mark.parametrize("driver", [on("vfs"), on("overlay2")])
OFTEN = pytest.mark.parametrize("forever", [True, False], ids=["forever", "once"])


@DRIVERS
@OFTEN
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_disk_errors_at_each_write(code, forever, driver):
    """The call fails, or it has done what it promises."""
    all_of(Task("write", "ext4", driver, code, forever), samples=range(1, 200))


@DRIVERS
@OFTEN
def test_disk_errors_at_each_read(forever, driver):
    """A read gives an error, never wrong bytes. Neither gc nor a repair treats unreadable files as missing."""
    all_of(Task("read", "ext4", driver, errno.EIO, forever), samples=range(1, 70))


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
    """With 0, 1, 2, … blocks (4 KiB) or inodes left, existing layers can be read, and nothing stale is left."""
    all_of(Task(kind, file_system, driver, errno.ENOSPC, first=0), samples=range(100))


def all_of(task, samples):
    """Refuse each call in turn. Only the thorough mode tries more than two samples."""
    if not THOROUGH:
        numbers = random.Random(f"{SEED} {task}").sample(samples, 2)
        task = dataclasses.replace(task, numbers=tuple(numbers))
    findings = run_task(task, at_once=os.cpu_count() or 1)
    if task.kind in ("read", "write"):
        what = f"{errno.errorcode[task.code]} at a {task.kind}, {'forever' if task.forever else 'once'}"
    else:
        what = f"a disk with few {task.kind} left"
    note(f"{what}: {task.driver} on {task.file_system}", findings.faults, len(findings.losses))
    assert findings.losses == []
    assert findings.faults
    if THOROUGH:
        assert findings.raised > len(samples) // 3
