"""The databases of dpkg and apk: this machine's, small ones by hand, and hostile ones."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.view.packages import package, read_packages
from layerstore_core.view.packages.package import MAX_TEXT, Package, read_paragraphs, whole_number
from tests.across.chains import d, f, sym
from tests.view.conftest import view_of

STATUS = Path("/var/lib/dpkg/status")

APK = b"""C:Q1abc=
P:musl
V:1.2.4-r2
A:x86_64
S:383152
I:622592
T:the musl c library (libc) implementation
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755
Z:Q1xyz=

P:busybox
V:1.36.1-r5
A:x86_64
I:962560

P:no-size
V:1

V:no name

"""


def packages(path: bytes, database: bytes) -> tuple[Package, ...]:
    return read_packages(view_of([f(path, database)]))


@pytest.mark.skipif(not STATUS.exists(), reason="this machine has no packages of dpkg")
def test_the_packages_of_this_machine_are_those_that_dpkg_lists() -> None:
    form = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${Installed-Size}\n"
    done = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    expected = sorted(
        Package("dpkg", name, version, architecture, int(size or 0) * 1024)
        for state, name, version, architecture, size in lines
        if state not in ("not-installed", "config-files", "half-installed")
    )
    assert list(packages(b"var/lib/dpkg/status", STATUS.read_bytes())) == expected
    assert len(expected) > 50


def test_only_installed_packages_of_dpkg_count() -> None:
    states = {
        b"a": b"install ok installed",
        b"b": b"deinstall ok config-files",
        b"c": b"hold ok installed",
        b"d": b"install ok triggers-awaited",
        b"e": b"install reinstreq half-installed",
        b"f": b"unknown ok not-installed",
    }
    status = b"\n".join(b"Package: %s\nStatus: %s\nVersion: 1\n" % one for one in states.items())
    assert [one.name for one in packages(b"var/lib/dpkg/status", status)] == ["a", "c", "d"]


def test_an_image_without_dpkg_has_one_file_for_each_package() -> None:
    view = view_of(
        [
            d(b"var/lib/dpkg/status.d"),
            f(b"var/lib/dpkg/status.d/base", b"Package: base-files\nVersion: 12.4\nInstalled-Size: 340\n"),
            f(b"var/lib/dpkg/status.d/base.md5sums", b"Package: wrong\n"),
            f(b"var/lib/dpkg/status.d/tz", b"Package: tzdata\nVersion: 2024a\nArchitecture: all\n"),
        ]
    )
    assert read_packages(view) == (
        Package("dpkg", "base-files", "12.4", "", 340 * 1024),
        Package("dpkg", "tzdata", "2024a", "all", 0),
    )


def test_the_packages_of_apk_are_read() -> None:
    expected = (
        Package("apk", "busybox", "1.36.1-r5", "x86_64", 962560),
        Package("apk", "musl", "1.2.4-r2", "x86_64", 622592),
        Package("apk", "no-size", "1", "", 0),
    )
    assert packages(b"lib/apk/db/installed", APK) == expected
    assert packages(b"usr/lib/apk/db/installed", APK) == expected
    assert read_packages(view_of([d(b"usr/lib"), sym(b"lib", b"usr/lib"), f(b"usr/lib/apk/db/installed", APK)])) == (
        expected
    )


def test_a_deleted_database_lists_nothing() -> None:
    assert read_packages(view_of([f(b"lib/apk/db/installed", APK)], [f(b"lib/apk/db/.wh.installed")])) == ()
    assert read_packages(view_of([d(b"lib/apk/db/installed"), sym(b"var/lib/dpkg", b"dpkg")])) == ()


def test_what_is_too_large_is_left_out() -> None:
    with mock.patch.object(package, "MAX_DATABASE", 10):
        assert package.open_database(view_of([f(b"a", b"x" * 11)]), b"a", 10) is None
    paragraph = b"Package: a%d\n\n"
    with mock.patch("layerstore_core.view.packages.dpkg.MAX_PACKAGES", 5):
        status = b"".join(paragraph % number for number in range(9))
        assert len(packages(b"var/lib/dpkg/status", status)) == 5
    with mock.patch("layerstore_core.view.packages.apk.MAX_PACKAGES", 2):
        assert len(packages(b"lib/apk/db/installed", APK)) == 2
    with mock.patch("layerstore_core.view.packages.dpkg.MAX_DATABASE", 30):
        parts = [f(b"var/lib/dpkg/status.d/%d" % number, paragraph % number) for number in range(9)]
        assert len(read_packages(view_of(parts))) == 2


def test_long_lines_and_unwanted_fields_are_not_kept() -> None:
    long = b"Version: " + b"v" * (3 << 20) + b"\n"
    hidden = b"Comment: " + b"x" * ((1 << 20) - 9) + b"Package: hidden\n"
    text = b"Package: a\n" + long + hidden + b"n" * 9999 + b": 1\n" + b"".join(b"F%d: 1\n" % n for n in range(999))
    assert list(read_paragraphs(io.BytesIO(text), ("Package", "Version"))) == [
        {"Package": "a", "Version": "v" * MAX_TEXT}
    ]


@pytest.mark.parametrize("text", ["", "-1", "1e3", "٣", "1" * 19, " 1", "0x1"])
def test_what_is_no_whole_number_is_nothing(text: str) -> None:
    assert whole_number(text) == 0


def pieces() -> Iterator[bytes]:
    for name in (b"Package", b"Status", b"Version", b"Installed-Size", b"P", b"V", b"I", b"x"):
        yield from (name + b":", name + b": 1", name + b": install ok installed", b" " + name)


TEXTS = st.lists(
    st.sampled_from([*pieces(), b"\n", b"\n\n", b"\r\n", b"\0", b"\xff", b":", b" "]) | st.binary(max_size=9)
)


@given(parts=TEXTS)
def test_any_bytes_are_read_without_an_error(parts: list[bytes]) -> None:
    database = b"".join(parts)
    paths = (b"var/lib/dpkg/status", b"var/lib/dpkg/status.d/a", b"lib/apk/db/installed")
    for one in read_packages(view_of([f(path, database) for path in paths])):
        assert one.name
        assert one.size >= 0
        "".join(one[:4]).encode()
