"""Shifts of user and group IDs between the layer and the host."""

from __future__ import annotations

import pytest

from layerstore_core.tree.idmap import IDMapping, IDRange

MAPPING = IDMapping(
    uids=(IDRange(0, 1000, 1), IDRange(1, 100000, 65535)), gids=(IDRange(0, 200000, 1000), IDRange(5000, 50, 10))
)


def test_the_empty_mapping_changes_nothing() -> None:
    empty = IDMapping()
    assert not empty
    assert empty.to_host(5, 6) == empty.to_container(5, 6) == (5, 6)
    assert empty.root_pair() == (0, 0)


@pytest.mark.parametrize(
    ("container", "host"),
    [((0, 0), (1000, 200000)), ((1, 999), (100000, 200999)), ((65535, 5000), (165534, 50)), ((7, 5009), (100006, 59))],
)
def test_ids_are_shifted_to_the_host_and_back(container: tuple[int, int], host: tuple[int, int]) -> None:
    assert MAPPING.to_host(*container) == host
    assert MAPPING.to_container(*host) == container


def test_root_pair_is_the_hosts_ids_of_the_layers_root() -> None:
    assert MAPPING
    assert MAPPING.root_pair() == (1000, 200000)


def test_a_mapping_of_groups_alone_keeps_user_ids() -> None:
    mapping = IDMapping(gids=(IDRange(0, 9, 1),))
    assert mapping
    assert mapping.to_host(77, 0) == (77, 9)


@pytest.mark.parametrize(
    ("uid", "gid", "what"), [(65536, 0, "layer uid 65536"), (0, 1000, "layer gid 1000"), (-1, 0, "uid -1")]
)
def test_layer_ids_outside_the_ranges_are_refused(uid: int, gid: int, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        MAPPING.to_host(uid, gid)


@pytest.mark.parametrize(
    ("uid", "gid", "what"), [(0, 50, "host uid 0"), (1000, 60, "host gid 60"), (165535, 50, "host uid")]
)
def test_host_ids_outside_the_ranges_are_refused(uid: int, gid: int, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        MAPPING.to_container(uid, gid)
