"""Where wasted bytes are: by hand, and for any list of wasted files."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from layerstore_core import InvalidLayer, LayerStore
from layerstore_core.view.analysis.layers import Wasted, analyze_layers
from layerstore_core.view.analysis.waste import Offender, by_path, offenders
from tests import tars
from tests.across.chains import d, f
from tests.across.test_same_tree import CHAINS_OF_ENTRIES, Entry
from tests.store.layers import register
from tests.view.conftest import view_of


def wasted(path: bytes, size: int, layer: int = 0, hidden_by: int = 1, *, how: str = "deleted") -> Wasted:
    """Return a wasted file; `how` is `deleted`, `overwritten` or `repeated`."""
    kind = "deleted" if how == "deleted" else "overwritten"
    return Wasted(path, size, layer, hidden_by, kind, how == "repeated")


def named(*files: Wasted) -> list[tuple[bytes, int]]:
    return [(one.path, one.size) for one in offenders(files)]


def test_nothing_is_nowhere() -> None:
    assert offenders([]) == ()
    assert by_path([]) == ()


def test_one_file_is_named_by_itself() -> None:
    (only,) = offenders([wasted(b"var/lib/big", 7, 1, 3, how="overwritten")])
    assert only == Offender(b"var/lib/big", 7, 7, 1, False, False, (1,), (3,), False)


def test_a_directory_stands_for_many_files_of_which_none_has_half() -> None:
    debs = [wasted(b"var/cache/apt/archives/%d.deb" % number, 10) for number in range(3)]
    (archives,) = offenders(debs)
    assert archives == Offender(b"var/cache/apt/archives", 30, 0, 3, True, False, (0,), (1,), False)


def test_a_part_with_half_of_the_bytes_is_a_place_of_its_own_and_the_rest_stays_together() -> None:
    files = [wasted(b"opt/app/big", 50), *(wasted(b"opt/app/lib/%d" % number, 10) for number in range(5))]
    assert named(*files) == [(b"opt/app/big", 50), (b"opt/app/lib", 50)]
    files = [wasted(b"opt/app/big", 70), *(wasted(b"opt/app/%d" % number, 10) for number in range(6))]
    big, rest = offenders(files)
    assert (big.path, big.size, big.directory, big.partly) == (b"opt/app/big", 70, False, False)
    assert (rest.path, rest.size, rest.files, rest.directory, rest.partly) == (b"opt/app", 60, 6, True, True)


def test_parts_are_taken_out_until_none_has_half_of_what_is_left() -> None:
    sizes = {b"a": 64, b"b": 32, b"c": 16, b"d": 5, b"e": 5, b"f": 6}
    files = [wasted(b"srv/x/" + name, size) for name, size in sizes.items()]
    assert named(*files) == [(b"srv/x/a", 64), (b"srv/x/b", 32), (b"srv/x", 16), (b"srv/x/c", 16)]


def test_what_one_layer_repeats_stays_together() -> None:
    """`chown -R` of a directory is one mistake, whatever the sizes of its files."""
    files = [wasted(b"opt/app/big", 90, how="repeated"), wasted(b"opt/app/small", 10, how="repeated")]
    (both,) = offenders(files)
    assert both == Offender(b"opt/app", 100, 100, 2, True, False, (0,), (1,), True)
    # Where all of the bytes are in one part, that is named.
    assert named(*(one._replace(path=one.path.replace(b"app", b"app/bin")) for one in files)) == [(b"opt/app/bin", 100)]
    # Another layer, or another content, makes it two mistakes.
    for other in (files[1]._replace(hidden_by=2), wasted(b"opt/app/small", 10)):
        assert named(files[0], other) == [(b"opt/app/big", 90), (b"opt/app/small", 10)]


def test_the_first_two_names_of_a_path_are_never_left_out() -> None:
    files = [wasted(b"usr/lib/%d" % number, 10) for number in range(4)]
    files += [wasted(b"usr/bin/%d" % number, 10) for number in range(4)]
    files += [wasted(b"%d" % number, 1) for number in range(2)]
    assert named(*files) == [(b"usr/bin", 40), (b"usr/lib", 40), (b"0", 1), (b"1", 1)]


def test_a_path_that_was_a_file_and_a_directory_is_both() -> None:
    files = [wasted(b"a/b/c", 5, 0, 1), wasted(b"a/b/c/d", 3, 1, 2), wasted(b"a/b/c/e", 3, 1, 2)]
    (place,) = offenders(files)
    assert (place.path, place.size, place.files, place.directory) == (b"a/b/c", 11, 3, True)


def test_empty_files_are_named_with_their_directory() -> None:
    files = [wasted(b"opt/x/%d" % number, 0) for number in range(3)]
    (place,) = offenders(files)
    assert (place.path, place.size, place.files) == (b"opt/x", 0, 3)


def test_a_deep_path_needs_no_recursion() -> None:
    path = b"/".join([b"d"] * 2000)
    assert named(wasted(path, 1)) == [(path, 1)]
    assert named(wasted(path + b"/a", 1), wasted(path + b"/b", 1), wasted(path + b"/c", 1)) == [(path, 3)]


def test_each_path_has_all_its_files_the_lowest_layer_first() -> None:
    one, other, third = wasted(b"a", 5, 2, 3), wasted(b"a", 4, 0, 1), wasted(b"b", 8)
    first, second = by_path([one, third, other])
    assert (first.path, first.size, first.files) == (b"a", 9, (other, one))
    assert (second.path, second.size, second.files) == (b"b", 8, (third,))


def test_the_cause_of_planted_waste_is_named(store: LayerStore) -> None:
    app = [d(b"opt"), d(b"opt/app"), f(b"opt/app/big", b"x" * 900), f(b"opt/app/small", b"y" * 50), f(b"opt/app/no")]
    base = register(
        store, tars.tar(*app, d(b"var"), d(b"var/c"), *(f(b"var/c/%d" % n, b"z" * 99) for n in range(5))), ""
    )
    owned = [tars.entry(one[:100].rstrip(b"\0"), one[512:][: int(one[124:135], 8)], uid=7) for one in app[2:]]
    top = register(store, tars.tar(*owned, f(b"var/.wh.c")), base)
    with register(store, tars.tar(f(b"opt/other", b"1")), top).view() as view:
        found = offenders(analyze_layers(view).wasted)
    assert [(one.path, one.size, one.files, one.repeated) for one in found] == [
        (b"opt/app", 950, 3, True),
        (b"var/c", 495, 5, False),
    ]


NAMES = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)
WASTED = st.builds(
    wasted,
    PATHS,
    st.integers(0, 5) | st.integers(0, 1000),
    st.integers(0, 2),
    st.integers(3, 4),
    how=st.sampled_from(["deleted", "overwritten", "repeated"]),
)


def check(files: list[Wasted]) -> None:
    """Check that each wasted file is in one place, and that all sums are right."""
    found = offenders(files)
    assert sum(one.size for one in found) == sum(one.size for one in files)
    assert sum(one.files for one in found) == len(files)
    assert [one.size for one in found] == sorted((one.size for one in found), reverse=True)
    assert max(Counter(one.path for one in found).values(), default=1) == 1
    places = {one.path: one for one in found}
    within: dict[bytes, list[Wasted]] = {path: [] for path in places}
    for one in files:
        parts = one.path.split(b"/")
        above = [b"/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        within[next(path for path in above if path in places)].append(one)  # the nearest place
    for path, place in places.items():
        inside = within[path]
        assert place.size == sum(one.size for one in inside)
        assert place.files == len(inside)
        assert place.overwritten == sum(one.size for one in inside if one.kind == "overwritten")
        assert place.layers == tuple(sorted({one.layer for one in inside}))
        assert place.hidden_by == tuple(sorted({one.hidden_by for one in inside}))
        assert place.repeated == all(one.repeated for one in inside)
        assert place.directory == any(one.path != path for one in inside)
        nearer = [one for one in places if one.startswith(path + b"/")]
        assert place.partly == bool(place.directory and nearer)
        parts: Counter[bytes] = Counter()
        for one in inside:
            if one.path != path:
                parts[one.path[len(path) + 1 :].split(b"/")[0]] += one.size
        chowned = (
            len({(one.hidden_by, one.repeated) for one in files if (one.path + b"/").startswith(path + b"/")}) == 1
        )
        if place.directory and place.size and not (chowned and place.repeated):
            assert 2 * max(parts.values()) < place.size, "a part with half of the bytes is a place of its own"
        assert path.count(b"/") or not place.directory, "a directory in the root stands for nothing"
    paths = by_path(files)
    assert [one for path in paths for one in path.files] == sorted(
        files, key=lambda one: ([path.path for path in paths].index(one.path), one.layer)
    )
    assert [path.size for path in paths] == sorted((path.size for path in paths), reverse=True)
    assert all(path.size == sum(one.size for one in path.files) for path in paths)


@given(files=st.lists(WASTED, max_size=25))
def test_each_wasted_file_belongs_to_one_place(files: list[Wasted]) -> None:
    check(files)


@given(chain=CHAINS_OF_ENTRIES)
def test_the_places_of_any_chain_have_its_wasted_bytes(chain: list[list[Entry]]) -> None:
    view = view_of(*[[entry.tar() for entry in entries] for entries in chain])
    try:
        analysis = analyze_layers(view)
    except InvalidLayer:
        return
    check(list(analysis.wasted))
    assert sum(one.size for one in offenders(analysis.wasted)) == analysis.hidden
