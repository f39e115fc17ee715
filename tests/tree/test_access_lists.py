"""IDs in access lists: those of a layer and those of the host, which are malformed in no new way."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.diff.pack import pack_tree
from layerstore_core.errors import InvalidLayer
from layerstore_core.tree.access_lists import named_ids, numbered, shift_ids
from layerstore_core.tree.idmap import IDMapping, IDRange
from layerstore_core.unpack.restore_metadata import entries_of
from tests import tars
from tests.conftest import needs_root
from tests.unpack.test_unpacker import unpack_tar

MAPPING = IDMapping(uids=(IDRange(0, 100_000, 1000),), gids=(IDRange(0, 200_000, 1000),))
ACCESS = "system.posix_acl_access"
_NO_ID = (1 << 32) - 1


def access_list(user: int, group: int) -> bytes:
    """Return an access list that names a user and a group, in the order that the kernel demands."""
    entries = ((1, 6, _NO_ID), (2, 4, user), (4, 4, _NO_ID), (8, 1, group), (16, 5, _NO_ID), (32, 0, _NO_ID))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_named_ids_are_shifted_and_no_others() -> None:
    value = access_list(33, 34)
    assert named_ids(value) == ([33], [34])
    assert shift_ids(value, MAPPING, to_host=True) == access_list(100_033, 200_034)
    assert shift_ids(access_list(100_033, 200_034), MAPPING, to_host=False) == value
    assert shift_ids(value, IDMapping(), to_host=True) == value


def test_an_id_in_no_range_is_refused() -> None:
    with pytest.raises(ValueError, match="layer gid 1000 is in none"):
        shift_ids(access_list(33, 1000), MAPPING, to_host=True)


def test_lists_that_differ_in_ids_only_are_alike() -> None:
    assert numbered(access_list(1, 2)) == numbered(access_list(3, 4))
    assert numbered(access_list(1, 2)) != numbered(access_list(1, 2)[:-4] + bytes(4))


@given(st.binary(max_size=40))
def test_malformed_lists_stay_as_they_are(value: bytes) -> None:
    if len(value) % 8 != 4:
        assert named_ids(value) == ([], [])
        assert shift_ids(value, MAPPING, to_host=True) == numbered(value) == value


@needs_root
def test_files_have_the_hosts_ids_and_tars_the_layers(root: Path) -> None:
    """Before, the file was readable for the host's user 33, and not for the layer's."""
    tar = tars.tar(tars.pax([(b"SCHILY.xattr." + ACCESS.encode(), access_list(33, 34))]) + tars.entry(b"f", mode=0o650))
    unpack_tar(tar, root, id_mapping=MAPPING)
    assert os.getxattr(root / "f", ACCESS) == access_list(100_033, 200_034)
    ((packed, _),) = entries_of(iter([b"".join(pack_tree(root, id_mapping=MAPPING))]))
    assert packed.xattrs[ACCESS.encode()] == access_list(33, 34)


@needs_root
def test_a_list_with_an_id_in_no_range_is_an_invalid_layer(root: Path) -> None:
    tar = tars.tar(tars.pax([(b"SCHILY.xattr." + ACCESS.encode(), access_list(1000, 0))]) + tars.entry(b"f"))
    with pytest.raises(InvalidLayer, match="its access list cannot be set: layer uid 1000"):
        unpack_tar(tar, root, id_mapping=MAPPING)
