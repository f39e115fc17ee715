"""A script that fails is shortened as far as its failure allows."""

from __future__ import annotations

from layerstore_core.conformance.scripts import read_script, shorten, write_script


def test_shorten_keeps_only_the_steps_that_the_failure_needs(tmp_path) -> None:
    steps = [{"do": str(number)} for number in range(40)]
    needed = [steps[3], steps[17], steps[39]]
    assert shorten(steps, lambda some: all(one in some for one in needed), seconds=60) == needed
    write_script(tmp_path / "x.script", needed)
    assert read_script(tmp_path / "x.script") == needed


def test_shorten_ends_at_its_time_limit() -> None:
    steps = [{"do": str(number)} for number in range(40)]
    assert shorten(steps, lambda _: True, seconds=0) == steps
