"""Metadata that a disk could not keep: recorded over a chain of layers, and restored in a diff, which else is kept."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from layerstore_core.tree.idmap import IDMapping
from layerstore_core.unpack.restore_metadata import RecordedMetadata, Rights, entries_of, restore_metadata
from tests import tars

CHAIN = [
    tars.tar(
        tars.directory(b"d", uid=1),
        tars.entry(b"d/kept", uid=2),
        tars.entry(b"d/gone", uid=3),
        tars.entry(b"d/again", uid=4),
        tars.directory(b"o", uid=5),
        tars.entry(b"o/hidden", uid=6),
        tars.directory(b"t", uid=7),
        tars.entry(b"t/below", uid=8),
        tars.entry(b"secret", mode=0),
    ),
    tars.tar(
        tars.entry(b"o/own", uid=9),
        tars.entry(b"o/.wh..wh..opq"),
        tars.entry(b"d/.wh.again"),
        tars.entry(b"d/again", uid=10),
        tars.entry(b"d/.wh.gone"),
        tars.entry(b".wh.t"),
        tars.directory(b"t"),
        tars.hard_link(b"twin", b"d/again", uid=10),
    ),
]


@pytest.fixture
def recorded() -> RecordedMetadata:
    known = RecordedMetadata()
    for tar in CHAIN:
        known.add_layer(entries_of(iter([tar])))
    return known


@pytest.fixture
def ordinary() -> Rights:
    rights = Rights(IDMapping())
    rights.ordinary = True
    return rights


def restored(diff: bytes, recorded: RecordedMetadata, rights: Rights) -> dict[str, tuple[int, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(restore_metadata(iter([diff]), recorded, rights)))) as tar:
        return {member.name: (member.uid, member.gid, member.mode) for member in tar}


def test_owners_come_from_the_nearest_layer_and_not_from_deleted_files(
    recorded: RecordedMetadata, ordinary: Rights
) -> None:
    names = [b"d/kept", b"d/gone", b"d/again", b"o/hidden", b"o/own", b"t/below", b"twin", b"new"]
    diff = tars.tar(
        *(tars.directory(name, uid=77) for name in (b"d", b"o", b"t")),
        *(tars.entry(name, b"x", uid=77) for name in names),
    )
    assert {name: uid for name, (uid, _, _) in restored(diff, recorded, ordinary).items()} == {
        "d": 1, "d/kept": 2, "d/gone": 0, "d/again": 10, "o": 5, "o/hidden": 0, "o/own": 9, "t": 0, "t/below": 0,
        "twin": 10, "new": 0,
    }  # fmt: skip


def test_a_changed_mode_is_kept(recorded: RecordedMetadata, ordinary: Rights) -> None:
    for shown, wanted in (0o400, 0), (0o600, 0o600):
        assert restored(tars.tar(tars.entry(b"secret", mode=shown)), recorded, ordinary)["secret"][2] == wanted


def test_a_file_of_another_type_counts_as_new(recorded: RecordedMetadata, ordinary: Rights) -> None:
    assert restored(tars.tar(tars.symlink(b"d", b"x", uid=77)), recorded, ordinary)["d"][0] == 0


RENAMED = [
    tars.tar(
        tars.entry(b"a/file", b"12345", uid=1, mtime=5),
        tars.entry(b"a/same", b"123", uid=2, mtime=5),
        tars.entry(b"a/twin", b"123", uid=3, mtime=5),
        tars.symlink(b"a/link", b"there", uid=4, mtime=5),
        tars.directory(b"moved/", uid=5, mtime=5),
        tars.entry(b"moved/inner", b"x", mode=0, uid=6, mtime=5),
        tars.entry(b"kept", b"12345", uid=7, mtime=5),
        tars.entry(b"usual", b"12345", mtime=5),
    )
]


def test_a_renamed_file_keeps_its_owner(ordinary: Rights) -> None:
    known = RecordedMetadata()
    for tar in RENAMED:
        known.add_layer(entries_of(iter([tar])))
    entries = {
        b"b/file": (tars.entry(b"b/file", b"12345", mtime=5), 1),
        b"b/other": (tars.entry(b"b/other", b"12345", mtime=5), 1),
        b"b/written": (tars.entry(b"b/written", b"12345", mtime=6), 0),
        b"b/longer": (tars.entry(b"b/longer", b"123456", mtime=5), 0),
        b"b/chmod": (tars.entry(b"b/chmod", b"12345", mode=0o600, mtime=5), 0),
        b"b/same": (tars.entry(b"b/same", b"123", mtime=5), 2),
        b"b/twin": (tars.entry(b"b/twin", b"123", mtime=5), 3),
        b"b/unclear": (tars.entry(b"b/unclear", b"123", mtime=5), 0),
        b"b/link": (tars.symlink(b"b/link", b"there", mtime=5), 4),
        b"b/elsewhere": (tars.symlink(b"b/elsewhere", b"elsewhere", mtime=5), 0),
        b"b/content": (tars.entry(b"b/content", b"54321", mtime=5), 0),
        b"new": (tars.directory(b"new/", mtime=5), 0),
        b"new/moved": (tars.directory(b"new/moved/", mtime=5), 5),
        b"new/inner": (tars.entry(b"new/inner", b"x", mode=0o400, mtime=5), 6),
        b"kept": (tars.entry(b"kept", b"12345", mtime=5), 7),
        b"usual": (tars.entry(b"usual", b"12345", mtime=5), 0),
    }
    added = set(entries) - {b"kept", b"usual"}
    known.add_changes(added, [b"a/file", b"a/same", b"a/twin", b"a/link", b"moved", b"unknown"], ordinary=True)
    found = restored(tars.tar(*(entry for entry, _ in entries.values())), known, ordinary)
    assert {name.encode(): uid for name, (uid, _, _) in found.items()} == {
        name: uid for name, (_, uid) in entries.items()
    }
    assert found["new/inner"][2] == 0, "the mode is the tar's again"


CAPABILITY = b"\1\0\0\2" + bytes(16)


def with_rights(entry: bytes) -> bytes:
    return tars.pax([(b"SCHILY.xattr.security.capability", CAPABILITY)]) + entry


def known_of(*entries: bytes, added: Iterable[bytes] = (), deleted: Iterable[bytes] = ()) -> RecordedMetadata:
    known = RecordedMetadata()
    known.add_layer(entries_of(iter([tars.tar(*entries)])))
    known.add_changes(added, deleted, ordinary=True)
    return known


def rights_in(diff: bytes, recorded: RecordedMetadata, rights: Rights) -> set[str]:
    """The names of the entries with file capabilities."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(restore_metadata(iter([diff]), recorded, rights)))) as tar:
        return {member.name for member in tar if "SCHILY.xattr.security.capability" in member.pax_headers}


def test_a_file_without_content_is_renamed_only_with_its_base_name(ordinary: Rights) -> None:
    new = [b"marker", b"run/secret.lock", b"pipe", b"run/fifo"]
    known = known_of(
        tars.entry(b"var/secret.lock", uid=33),
        tars.entry(b"var/fifo", typeflag=b"6", uid=34),
        added=new,
        deleted=[b"var/secret.lock", b"var/fifo"],
    )
    diff = tars.tar(*(tars.entry(name) for name in new[:2]), *(tars.entry(name, typeflag=b"6") for name in new[2:]))
    owners = {name: uid for name, (uid, _, _) in restored(diff, known, ordinary).items()}
    assert owners == {"marker": 0, "run/secret.lock": 33, "pipe": 0, "run/fifo": 34}


def test_a_renamed_file_gets_no_rights(ordinary: Rights) -> None:
    new = [b"evil", b"moved/ping", b"other"]
    known = known_of(
        with_rights(tars.entry(b"var/ping", b"ping", uid=33)),
        tars.entry(b"var/set", b"set", mode=0o4755, uid=34),
        added=[*new, b"set"],
        deleted=[b"var/ping", b"var/set"],
    )
    contents = [b"evil", b"ping", b"ping"]
    diff = tars.tar(*map(tars.entry, new, contents), tars.entry(b"set", b"set", mode=0o755))
    assert not rights_in(diff, known, ordinary)
    assert restored(diff, known, ordinary) == {
        "evil": (0, 0, 0o644), "moved/ping": (33, 0, 0o644), "other": (33, 0, 0o644), "set": (0, 0, 0o755),
    }  # fmt: skip


def test_a_hard_link_to_a_renamed_file_has_its_owner(ordinary: Rights) -> None:
    known = known_of(tars.entry(b"a", b"same", uid=33), added=[b"b", b"c"], deleted=[b"a"])
    diff = tars.tar(tars.entry(b"b", b"same"), tars.hard_link(b"c", b"b"))
    assert [uid for uid, _, _ in restored(diff, known, ordinary).values()] == [33, 33]


@pytest.mark.parametrize(
    ("diff", "wanted"),
    [
        ([tars.entry(b"ping", b"ping")], {"ping"}),
        ([tars.entry(b"ping", b"evil")], set()),
        ([tars.entry(b"evil", b"evil"), tars.hard_link(b"ping", b"evil")], set()),
        ([tars.entry(b"evil", b"longer"), tars.hard_link(b"ping", b"evil")], set()),
        ([tars.entry(b"ping", b"evil"), tars.hard_link(b"second", b"ping")], set()),
        ([tars.entry(b"a", b"ping"), tars.hard_link(b"ping", b"a")], {"ping"}),
        ([tars.hard_link(b"second", b"ping")], {"second"}),
        ([tars.sparse_old_gnu(b"evil", b"ab" + bytes(4096), [(0, 2)]), tars.hard_link(b"ping", b"evil")], set()),
    ],
)
def test_rights_stay_only_with_the_content(ordinary: Rights, diff: list[bytes], wanted: set[str]) -> None:
    known = known_of(with_rights(tars.entry(b"ping", b"ping")))
    assert rights_in(tars.tar(*diff), known, ordinary) == wanted


def test_a_large_renamed_file_is_copied_as_it_is(ordinary: Rights, tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    for given, owner in ((content, 33), (content[:-1] + b"x", 0)):
        known = known_of(tars.entry(b"a", content, uid=33), added=[b"b"], deleted=[b"a"])
        tar = tars.tar(tars.entry(b"b", given), tars.entry(b"c", b"next"))
        pieces = (tar[start : start + 100_000] for start in range(0, len(tar), 100_000))
        copied = b"".join(restore_metadata(pieces, known, ordinary, lambda: tmp_path))
        assert copied == tars.tar(tars.entry(b"b", given, uid=owner), tars.entry(b"c", b"next"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chunk", [1, 700, 1 << 20])
def test_entries_that_need_no_change_are_copied_byte_for_byte(
    recorded: RecordedMetadata, ordinary: Rights, chunk: int
) -> None:
    tar = (
        tars.pax([(b"comment", b"x")], typeflag=b"g")
        + tars.entry(b"o/own", b"content" * 99, uid=9)
        + tars.pax([(b"mtime", b"1.5"), (b"LIBARCHIVE.x", b"y")])
        + tars.entry(b"new", b"x")
        + tars.entry(b"d/.wh.kept", uid=77)
        + tars.sparse_old_gnu(b"sparse", b"ab" + bytes(4096), [(0, 2)])
        + tars.END
        + b"behind the end"
    )
    pieces = (tar[start : start + chunk] for start in range(0, len(tar), chunk))
    assert b"".join(restore_metadata(pieces, recorded, ordinary)) == tar


def test_root_of_a_namespace_gets_only_owners_restored_that_it_could_not_set(
    recorded: RecordedMetadata, ordinary: Rights
) -> None:
    ordinary.ordinary = False
    ordinary._users._ranges = [range(4)]
    diff = tars.tar(
        *(tars.entry(name, uid=uid) for name, uid in ((b"d/kept", 0), (b"o/own", 0), (b"d/again", 3), (b"new", 3)))
    )
    assert {name: uid for name, (uid, _, _) in restored(diff, recorded, ordinary).items()} == {
        "d/kept": 0, "o/own": 9, "d/again": 3, "new": 3,
    }  # fmt: skip


def test_names_through_links_are_resolved_and_whiteout_devices_delete(ordinary: Rights) -> None:
    known = RecordedMetadata()
    known.add_layer(
        entries_of(
            iter(
                [
                    tars.tar(
                        tars.directory(b"usr/lib", uid=1),
                        tars.symlink(b"lib", b"usr/lib"),
                        tars.symlink(b"usr/l", b"/lib/."),
                        tars.symlink(b"usr/up", b"../usr/l/../lib"),
                        tars.symlink(b"loop", b"loop"),
                        tars.entry(b"lib/a", uid=2),
                        tars.entry(b"usr/l/b", uid=3),
                        tars.entry(b"usr/up/c", uid=4),
                        tars.entry(b"loop/x", uid=5),
                        tars.entry(b"usr/lib/gone", uid=6),
                        tars.entry(b"usr/lib/gone-too", uid=7),
                        tars.hard_link(b"usr/lib/twin", b"lib/a", uid=2),
                    )
                ]
            )
        )
    )
    known.add_layer(
        entries_of(
            iter(
                [
                    tars.tar(
                        tars.entry(b"lib/.wh.gone"),
                        tars.entry(b"lib/gone-too", typeflag=b"3", device=(0, 0)),
                        tars.entry(b"usr/l/b", uid=8),
                    )
                ]
            )
        )
    )
    names = [b"usr/lib/a", b"usr/lib/b", b"usr/lib/c", b"usr/lib/gone", b"usr/lib/gone-too", b"usr/lib/twin"]
    diff = tars.tar(*(tars.entry(name) for name in names))
    owners = [uid for uid, _, _ in restored(diff, known, ordinary).values()]
    assert owners == [2, 8, 4, 0, 0, 2]
