"""The benchmark's arithmetic: ratios, targets, tables and joined results."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from benchmarks import growth, report
from benchmarks.contenders import Contender, python
from benchmarks.measuring import Measured, Run, alternate, flatness, once, ratio
from benchmarks.targets import Against, rows

MIB = 1 << 20


def measured(*seconds: float | None, processor: float = 1.0, missing: str = "") -> Measured:
    return Measured("work", [None if one is None else Run(one, processor, MIB) for one in seconds], missing)


def results(work: str, **more: Any) -> dict[str, Any]:
    """Return the results of one work, as read from a file."""
    found = {
        "machine": {"cores": 2},
        "work": {work: {"title": "the work", "reference": "GNU tar -x", "contenders": more}},
    }
    text = json.dumps(found, default=lambda one: one.as_json())
    return json.loads(text)


def test_ratios_are_of_single_rounds() -> None:
    """The machine was busy in the second round, for both. In the third round one of them failed."""
    found = ratio([1.0, 10.0, None, 3.0], [2.0, 20.0, 1.0, 2.0])
    assert found is not None
    assert (found.median, found.least, found.most) == (0.5, 0.5, 1.5)
    assert ratio([None, 1.0], [1.0, None]) is None


def test_flatness_of_equal_costs_is_one() -> None:
    assert flatness([5, 5]) == 1
    assert flatness([5, 6, 4]) == 1.5


@pytest.mark.parametrize(("which", "found", "met"), [("fastest", "2.00", False), ("slowest", "0.50", True)])
def test_the_peer_that_counts_for_a_target(which: str, found: str, *, met: bool) -> None:
    target = Against("w", "ours", ("a", "b", "c"), 1.1, which)
    row = target.row(
        "title", {"ours": measured(2.0), "a": measured(1.0), "b": measured(4.0), "c": measured(missing="no c")}
    )
    assert row.found.startswith(found)
    assert row.found.endswith(f" of {'a' if which == 'fastest' else 'b'}; processor 1.00 (1.00 to 1.00)")
    assert row.met is met


def test_a_target_without_measurement_is_neither_met_nor_missed() -> None:
    target = Against("w", "ours", ("a",), 1.0)
    for found in (
        {"ours": measured(missing="needs root"), "a": measured(1.0)},
        {"ours": measured(1.0), "a": measured(missing="a is not installed")},
        {"ours": measured(1.0)},
        {},
    ):
        row = target.row("title", found)
        assert row.met is None
        assert row.found.startswith("not measured: ")
    assert (
        "a is not installed"
        in target.row("title", {"ours": measured(1.0), "a": measured(missing="a is not installed")}).found
    )


@pytest.mark.parametrize(("processor", "met"), [(1.4, True), (1.5, False)])
def test_a_target_for_the_processor_has_to_be_met_too(processor: float, *, met: bool) -> None:
    target = Against("w", "ours", ("a",), 0.9, processor=1.4)
    row = target.row("title", {"ours": measured(0.8, processor=processor), "a": measured(1.0)})
    assert row.target == "at most 0.9 × a, and 1.4 × its processor time"
    assert row.met is met


def test_work_that_two_peers_do_together_is_compared_with_their_sum() -> None:
    target = Against("w", "ours", ("inflate", "slow"), 0.8, plus="tar")
    peers = {"inflate": measured(1.0, 1.0), "slow": measured(9.0, 9.0), "tar": measured(3.0, None)}
    row = target.row("title", {"ours": measured(3.0, 3.0), **peers})
    assert row.target == "at most 0.8 × the sum of the fastest of inflate, slow and tar"
    assert row.found == "0.75 (0.75 to 0.75) of inflate; processor 0.50 (0.50 to 0.50)"
    assert row.met is True
    without = target.row("title", {"ours": measured(3.0), **peers, "tar": measured(missing="no tar")})
    assert (without.met, without.found) == (None, "not measured: tar: no tar")


def test_rows_of_a_work() -> None:
    found = rows(
        results(
            "register",
            **{"layerstore, vfs": measured(1.0), "GNU tar -x": measured(2.0), "docker load": measured(4.0)},
        )
    )
    ours = [(row.target, row.met) for row in found if row.work.endswith("vfs")]
    assert ours == [
        ("at most 0.85 × GNU tar -x, and 1.4 × its processor time", True),
        ("at most 0.13 × docker load", False),
    ]
    assert [row.met for row in found if row.work.endswith("overlay2")] == [None, None]


def test_rows_of_many_layers() -> None:
    found = rows(results("layers", **{"layerstore, opening": measured(0.1), "layerstore ls": measured(0.4, 0.6, 0.7)}))
    assert [(row.target, row.met) for row in found] == [
        ("at most 1.2 × layerstore export, 10 layers", None),
        ("under 0.5 s", True),
        ("under 0.5 s", False),
    ]


@pytest.mark.parametrize(("together", "met"), [(0.6, True), (0.9, False)])
def test_an_image_is_compared_with_what_the_cores_allow(together: float, *, met: bool) -> None:
    """One by one takes a second, and a second of one processor. So two cores could do it in half the time."""
    found = rows(
        results(
            "image",
            **{
                "layerstore, vfs, together": measured(together),
                "layerstore, vfs, one by one": measured(1.0, processor=1.0),
                "layerstore, overlay2, together": measured(missing="needs root"),
                "layerstore, overlay2, one by one": measured(missing="needs root"),
            },
        )
    )
    assert [row.met for row in found] == [None, met]
    assert "the cores allow 0.50" in found[1].found


def test_rows_of_growth_and_memory() -> None:
    given = {
        "machine": {"cores": 2},
        "work": {},
        "growth": {"of": {"register": {"1000": [10, 50, 11], "10000": [12]}, "export": {"1000": [1], "10000": [2]}}},
        "depth": {"of": {"register": {"25": [1]}}},
        "memory": {"a layer": {"register": 100 * MIB, "export": 130 * MIB}, "more": {"register": "no room"}},
    }
    assert [(row.work, row.met) for row in rows(given)] == [
        ("register of a layer", True),
        ("export of a layer", False),
        ("register of more", None),
        ("register: cost by entries of a layer", True),
        ("export: cost by entries of a layer", False),
        ("register: cost by layers below", None),
    ]


def test_growth_of_rounds() -> None:
    found = growth._Growth("s", "vfs")
    for factor in (1.0, 2.0):
        seconds = {"register": {"processor": [3 * factor, 2 * factor], "clock": [5.0, 4.0]}}
        found.add(10, seconds, min)
    assert found.as_json() == {
        "unit": "s",
        "driver": "vfs",
        "of": {"register": {10: [2.0, 4.0]}},
        "clock": {"register": {10: [4.0, 4.0]}},
    }


def test_counts_of_entries_that_are_measured() -> None:
    assert growth.counts(68_000, None) == [1_000, 10_000, 100_000]
    assert growth.counts(68_000, 1_000_000) == [1_000, 10_000, 100_000, 1_000_000]
    assert growth.counts(200, None) == []


def test_tables_go_between_the_markers() -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once_put = report.put(page, "new")
    assert once_put == f"before\n{report.BEGIN}\n\nnew\n{report.END}\nafter\n"
    assert report.put(once_put, "new") == once_put
    with pytest.raises(ValueError, match="needs the lines"):
        report.put("before\nafter\n", "new")


@pytest.mark.parametrize("page", [report._PAGE, report._README], ids=lambda path: path.name)
def test_the_pages_have_the_markers(page: Path) -> None:
    report.put(page.read_text(), "")


def test_joined_results_keep_the_last_measurement() -> None:
    one = {
        "machine": {"load": [1, 3]},
        "work": {"a": 1, "b": 1},
        "memory": {"x": 1},
        "growth": 1,
        "rounds": 3,
        "rows": [],
    }
    other = {"machine": {"load": [2, 5]}, "work": {"b": 2}, "depth": 2, "rounds": 1, "rows": []}
    assert report.join([one, other]) == {
        "machine": {"load": [1, 5]},
        "rounds": 3,
        "work": {"a": 1, "b": 2},
        "memory": {"x": 1},
        "growth": 1,
        "depth": 2,
    }


def test_contenders_take_turns_and_failures_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    note = "import sys; open(sys.argv[1], 'a').write(sys.argv[2])"
    contenders = [
        Contender("a", "", python(note, str(log), "a")),
        Contender("bad", "", python("raise SystemExit('it is broken')")),
        Contender("none", "", ["no-such-program"], "no-such-program"),
        Contender("b", "", python(note, str(log), "b")),
        Contender("timed", "", python("print(7.5, 2.5)"), prints_seconds=True),
    ]
    found = alternate(contenders, tmp_path, 2, lambda _: None)
    assert log.read_text() == "abab"
    assert found["bad"].missing == "failed: it is broken"
    assert "bad: it is broken" in capsys.readouterr().err
    assert found["none"].missing == "no-such-program is not installed"
    assert found["timed"].seconds == [7.5, 7.5]
    assert [run and run.processor for run in found["timed"].runs] == [2.5, 2.5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]


def test_memory_is_that_of_the_command(tmp_path: Path) -> None:
    run, _ = once(Contender("large", "", python("data = b'x' * (300 << 20)")), tmp_path)
    assert run is not None
    assert 300 * MIB < run.memory < 600 * MIB


def test_the_processors_time_of_a_daemon_counts(tmp_path: Path) -> None:
    """The daemon, which is this process here, works while the command waits."""
    pid = tmp_path / "pid"
    pid.write_text(str(os.getpid()))
    end = threading.Event()
    worker = threading.Thread(target=lambda: [None for _ in iter(end.is_set, True)])
    work = tmp_path / "work"
    work.mkdir()
    worker.start()
    try:
        used = [once(Contender("a", "", ["sleep", "1"], daemon=daemon), work)[0] for daemon in (None, pid)]
    finally:
        end.set()
        worker.join()
    assert used[0] is not None
    assert used[1] is not None
    assert used[0].processor < 0.05 < used[1].processor
