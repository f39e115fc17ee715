"""State of a driver that belongs to no single layer: checked once, and repaired by the driver before its layers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core import DriverContractError, LayerStore, hookimpl
from layerstore_core.driver.bound import BoundDriver
from layerstore_core.maintenance.check import Finding, RepairSource, check_store, repair
from layerstore_core.sdk import inside
from tests.store.drivers import SmallestDriver, open_with
from tests.store.layers import BASE, register, tar_of


class IndexedDriver(SmallestDriver):
    """A driver with an index of its layers, `<home>/index`: one line for each, which only `repair_home` writes."""

    @property
    def index(self) -> Path:
        return self.home / "index"

    def expected(self) -> set[str]:
        return {name for name in inside.names(self.home) if len(name) == 64}

    @hookimpl
    def check_home(self) -> list[str]:
        found = set(self.index.read_text().split()) if self.index.exists() else set()
        return [f"the index lacks layer {name}" for name in sorted(self.expected() - found)] + [
            f"the index has layer {name}, which does not exist" for name in sorted(found - self.expected())
        ]

    @hookimpl
    def repair_home(self) -> list[str]:
        self.index.write_text("".join(f"{name}\n" for name in sorted(self.expected())))
        return [f"wrote {self.index} again"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LayerStore]:
    with open_with(IndexedDriver, tmp_path / "root") as store:
        yield store


def answers(value: object, *, repaired: object = ()) -> type[SmallestDriver]:
    """Return a driver whose hooks about its home give these answers; an exception is raised."""

    class Answering(SmallestDriver):
        @hookimpl
        def check_home(self) -> object:
            if isinstance(value, Exception):
                raise value
            return value

        @hookimpl
        def repair_home(self) -> object:
            if isinstance(repaired, Exception):
                raise repaired
            return list(repaired) if isinstance(repaired, tuple) else repaired

    return Answering


def test_a_driver_without_such_state_is_sound(tmp_path: Path) -> None:
    with open_with(SmallestDriver, tmp_path / "root") as store:
        assert check_store(store) == []
        assert store.driver.repair_home() == []


def test_what_the_driver_finds_is_reported_and_repaired(store: LayerStore) -> None:
    with register(store, BASE) as layer:
        cache_id = layer.cache_id
    findings = check_store(store)
    assert [(one.code, one.subject, one.message) for one in findings] == [
        ("broken-driver-home", str(store.driver.home), f"the index lacks layer {cache_id}")
    ]
    done: list[tuple[Finding, str]] = []
    assert repair(store, findings, on_repaired=lambda finding, what: done.append((finding, what))) == []
    assert done == [(findings[0], f"wrote {store.driver.home / 'index'} again")]
    assert check_store(store) == []


def test_what_a_repair_leaves_stays_a_finding(tmp_path: Path) -> None:
    with open_with(answers(["one", "two"], repaired=("tried",)), tmp_path / "root") as store:
        findings = check_store(store)
        assert [finding.message for finding in findings] == ["one", "two"]
        done: list[Finding] = []
        assert repair(store, findings, on_repaired=lambda finding, what: done.append(finding)) == findings
        assert done == []


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), DriverContractError("no")])
def test_a_home_that_cannot_be_checked_or_repaired(tmp_path: Path, error: Exception) -> None:
    with open_with(answers(error, repaired=error), tmp_path / "root") as store:
        (finding,) = findings = check_store(store)
        assert finding.message.startswith("it cannot be checked: ")
        assert repair(store, findings) == findings


def test_the_answers_of_a_driver_are_bounded(tmp_path: Path) -> None:
    with open_with(answers(["x" * 5000] * 1000), tmp_path / "root") as store:
        sentences = store.driver.check_home(full=True)
        assert len(sentences) == 100
        assert sentences[0] == "x" * 1000 + "…"
        assert sentences[-1] == "and 901 more of this kind"


@pytest.mark.parametrize("value", ["text", [5], [None], ("a",), {"a": 1}])
def test_an_answer_that_is_no_list_of_texts_breaks_the_contract(tmp_path: Path, value: object) -> None:
    with open_with(answers(value, repaired=value if value != ("a",) else [1]), tmp_path / "root") as store:
        driver: BoundDriver = store.driver
        with pytest.raises(DriverContractError, match="hook check_home returned"):
            driver.check_home(full=True)
        with pytest.raises(DriverContractError, match="hook repair_home returned"):
            driver.repair_home()


def test_nothing_is_repaired_without_a_finding_of_the_home(tmp_path: Path) -> None:
    with open_with(answers([], repaired=AssertionError("it was called")), tmp_path / "root") as store:
        register(store, BASE).close()
        pin = Finding("dangling-pin", "sha256:" + "1" * 64, "a pin without its layer", "")
        assert repair(store, [pin]) in ([], [pin])


class SharingDriver(SmallestDriver):
    """A driver whose layers share the content of `shared`: `repair_home` copies it from a layer that has it whole."""

    WHOLE = b"shared by all layers"

    def files(self) -> list[Path]:
        return sorted(self.home.glob("*/shared"))

    @hookimpl
    def check_home(self, full: bool) -> list[str]:
        return [f"{path} is damaged" for path in self.files() if full and path.read_bytes() != self.WHOLE]

    @hookimpl
    def repair_home(self) -> list[str]:
        if not any(path.read_bytes() == self.WHOLE for path in self.files()):
            return []
        for path in self.files():
            rewrite(path, self.WHOLE)
        return ["wrote them again"]


def rewrite(path: Path, content: bytes) -> None:
    """Give a file another content, and leave its time."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_layer_that_the_last_repair_of_the_home_has_healed_is_no_finding(tmp_path: Path) -> None:
    """One layer is rebuilt from its tar; then the driver has what it needs to heal the other one, and not a third."""
    tars = [tar_of({"shared": SharingDriver.WHOLE, "own": own}) for own in (b"one", b"two", b"three")]
    with open_with(SharingDriver, tmp_path / "root") as store:
        chains = []
        for tar in tars:
            with register(store, tar) as layer:
                chains.append(layer.chain_id)
                last = store.driver.home / layer.cache_id
        for path in store.driver.home.glob("*/shared"):
            rewrite(path, b"damaged")
        rewrite(last / "own", b"xxxxx")
        findings = check_store(store, full=True)
        assert {finding.subject for finding in findings if finding.code == "damaged"} == set(chains)
        given = tmp_path / "one.tar"
        given.write_bytes(tars[0])
        done: list[tuple[Finding, str]] = []
        with RepairSource(store, given) as source:
            left = repair(
                store, findings, source=source, on_repaired=lambda finding, what: done.append((finding, what))
            )
        assert [finding.subject for finding in left] == [chains[2]]
        reported = {finding.subject: what for finding, what in done if finding.code == "damaged"}
        assert reported.keys() == set(chains[:2])
        assert reported[chains[1]] == "it is sound since the driver has repaired its home"
        assert [finding.subject for finding in check_store(store, full=True)] == [chains[2]]


def test_the_driver_is_told_whether_a_check_is_full(tmp_path: Path) -> None:
    """A plain check does not read all content; whether a repair has helped is found out by a full one."""
    with open_with(SharingDriver, tmp_path / "root") as store:
        with register(store, tar_of({"shared": b"damaged"})):
            pass
        assert check_store(store) == []
        findings = [finding for finding in check_store(store, full=True) if finding.code == "broken-driver-home"]
        assert len(findings) == 1
        assert repair(store, findings) == findings
