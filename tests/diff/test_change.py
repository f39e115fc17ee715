"""Touched paths as a tree of names."""

from __future__ import annotations

from layerstore_core.diff.change import TouchedPaths


def test_names_in_lists_the_names_on_the_way_to_touched_paths() -> None:
    touched = TouchedPaths([b"/etc/conf.d/x", b"/etc", b"/var/lib", b"/\xff/y"])
    assert touched.names_in(b"") == {"etc", "var", "\udcff"}
    assert touched.names_in(b"etc") == {"conf.d"}
    assert touched.names_in(b"etc/conf.d") == {"x"}
    assert touched.names_in(b"\xff") == {"y"}
    assert touched.names_in(b"var/lib") == touched.names_in(b"usr") == set()


def test_only_the_given_paths_are_touched() -> None:
    touched = TouchedPaths([b"/", b"/etc/hosts"])
    assert (b"" in touched, b"etc" in touched, b"etc/hosts" in touched) == (True, False, True)
    assert b"" not in TouchedPaths([b"/etc"])
