"""Group "model": random sequences of all operations, compared with a plain model in memory."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.model import Player, replay
from layerstore_core.conformance.outcomes.results import EXAMPLES
from layerstore_core.conformance.rig import DriverRig
from layerstore_core.conformance.scripts import InvalidScript, Step, read_script, shorten, write_script

#: The greatest number of steps of a sequence.
_STEPS: Final = 20
#: The number of seconds for shortening a sequence that fails.
_SHORTENING: Final = 20.0
_PATHS: Final = ["a", "b", "d", "d/a", "d/e", "d/e/a", "c"]
_TEXTS: Final = ["", "1", "two", "x" * 60]
_path = st.sampled_from(_PATHS)
_text = st.sampled_from(_TEXTS)
_entries = st.lists(
    st.tuples(st.sampled_from(["file", "directory", "link", "delete"]), _path, _text).map(list), min_size=1, max_size=4
)


class ModelTests(ConformanceTests):
    """Tests of a store with the driver against a model."""

    group: ClassVar = "model"

    def test_against_a_model(self, bench: DriverRig, request: pytest.FixtureRequest) -> None:
        """After any sequence of everyday steps, crashes included, the store shows what a plain model shows.

        Otherwise there is such a sequence that damages data; the shortest one found is in the script. The steps are:
        register, branch, mount, write, rename, commit, release, reopen and crash.
        """
        config = request.config
        chosen = config.getoption("--conformance-replay", None)
        if chosen is not None:
            replay(bench, read_script(Path(chosen)))
            return
        directory = Path(config.getoption("--conformance-scripts", None) or config.rootpath / ".conformance")
        script = directory / f"{bench.driver.name}.script"
        script.unlink(missing_ok=True)

        class Machine(StoreMachine):
            def __init__(self) -> None:
                super().__init__(fresh=lambda: _fresh(bench), script=script)

        examples = config.getoption("--conformance-examples", None) or EXAMPLES
        try:
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=_STEPS,
                    deadline=None,
                    # The code after this call shortens the script, which works better than shrinking Hypothesis's
                    # draws.
                    phases=(Phase.generate,),
                    database=None,
                    print_blob=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        except Exception as error:
            if script.exists():
                steps = shorten(read_script(script), lambda steps: bool(_failure(bench, steps)), _SHORTENING)
                write_script(script, steps)
                raise AssertionError(
                    f"{_failure(bench, steps) or error}\n  the shortest sequence found ({len(steps)} steps) is in "
                    f"{script}; replay it with: layerstore conformance {bench.name} --replay {script}"
                ) from error
            raise


class StoreMachine(RuleBasedStateMachine):
    """Draws the steps, which `Player` plays.

    Args:
        fresh: returns a new rig for each sequence, as a context manager.
        script: the file for a sequence that fails.
    """

    def __init__(self, fresh: Callable[[], Any], script: Path) -> None:
        super().__init__()
        self._context = fresh()
        self._bench: DriverRig = self._context.__enter__()
        self._script = script
        self._failed = False
        self.player = Player(self._bench)
        self._count = 0

    def teardown(self) -> None:
        """Remove all layers, and check that nothing is left."""
        try:
            if self._failed:
                self.player.abandon()
            else:
                with self._written_when_failing():
                    self.player.compare_exports()
                    self.player.close()
        finally:
            self._context.__exit__(None, None, None)

    def step(self, **step: Any) -> None:
        """Play one step."""
        with self._written_when_failing():
            self.player.play(step)

    @contextmanager
    def _written_when_failing(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._failed = True
            write_script(self._script, self.player.steps)
            raise

    def _new(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def _any_layer(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(["", *self.player.layer_names()]))

    def _any_writable(self, data: st.DataObject, *, mounted: bool | None = None) -> str:
        found = [name for name, one in self.player.model.writable.items() if mounted in (None, one.mounted)]
        return data.draw(st.sampled_from(sorted(found)))

    def _mounted(self, mounted: bool = True) -> bool:
        return any(one.mounted is mounted for one in self.player.model.writable.values())

    @rule(data=st.data(), entries=_entries)
    def register(self, data: st.DataObject, entries: list[list[str]]) -> None:
        self.step(do="register", layer=self._new("l"), parent=self._any_layer(data), entries=entries)

    @precondition(lambda self: len(self.player.model.writable) < 3)
    @rule(data=st.data())
    def create(self, data: st.DataObject) -> None:
        self.step(do="create", layer=self._new("w"), parent=self._any_layer(data))

    @precondition(lambda self: self._mounted(False))
    @rule(data=st.data())
    def mount(self, data: st.DataObject) -> None:
        self.step(do="mount", layer=self._any_writable(data, mounted=False))

    @precondition(lambda self: self._mounted())
    @rule(data=st.data())
    def unmount(self, data: st.DataObject) -> None:
        self.step(do="unmount", layer=self._any_writable(data, mounted=True))

    @precondition(lambda self: self._mounted())
    @rule(data=st.data(), path=_path, content=_text)
    def write(self, data: st.DataObject, path: str, content: str) -> None:
        self.step(do="write", layer=self._any_writable(data, mounted=True), path=path, content=content)

    @precondition(lambda self: self._mounted())
    @rule(data=st.data(), path=_path)
    def make_directory(self, data: st.DataObject, path: str) -> None:
        self.step(do="make-directory", layer=self._any_writable(data, mounted=True), path=path)

    @precondition(lambda self: self._mounted())
    @rule(data=st.data(), path=_path, to=st.sampled_from(["a", "../b", "nowhere"]))
    def link(self, data: st.DataObject, path: str, to: str) -> None:
        self.step(do="link", layer=self._any_writable(data, mounted=True), path=path, to=to)

    @precondition(lambda self: self._mounted())
    @rule(data=st.data(), path=_path, mode=st.sampled_from([0o700, 0o755, 0o640]))
    def change_mode(self, data: st.DataObject, path: str, mode: int) -> None:
        self.step(do="change-mode", layer=self._any_writable(data, mounted=True), path=path, mode=mode | 0o700)

    @precondition(lambda self: self._mounted())
    @rule(data=st.data(), path=_path)
    def delete(self, data: st.DataObject, path: str) -> None:
        self.step(do="delete", layer=self._any_writable(data, mounted=True), path=path)

    @precondition(lambda self: self._mounted())
    @rule(data=st.data(), path=_path, to=_path)
    def rename(self, data: st.DataObject, path: str, to: str) -> None:
        self.step(do="rename", layer=self._any_writable(data, mounted=True), path=path, to=to)

    @precondition(lambda self: bool(self.player.model.writable))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.step(do="commit", layer=self._new("l"), writable=self._any_writable(data))

    @precondition(lambda self: bool(self.player.model.writable))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.step(do="remove", layer=self._any_writable(data))

    @precondition(lambda self: bool(self.player.model.layers))
    @rule(data=st.data(), what=st.sampled_from(["pin", "release"]))
    def pin_or_release(self, data: st.DataObject, what: str) -> None:
        self.step(do=what, layer=data.draw(st.sampled_from(self.player.layer_names())))

    @rule(what=st.sampled_from(["collect", "reopen"]))
    def tidy(self, what: str) -> None:
        self.step(do=what)

    @rule(data=st.data(), call=st.integers(0, 8), entries=_entries)
    def crash(self, data: st.DataObject, call: int, entries: list[list[str]]) -> None:
        self.step(do="crash", layer=self._new("l"), call=call, parent=self._any_layer(data), entries=entries)


@contextmanager
def _fresh(bench: DriverRig) -> Iterator[DriverRig]:
    """Yield a rig like another, on its own root under that of the other."""
    with DriverRig(bench.name, bench.factory, bench.options, bench.root / f"model-{secrets.token_hex(4)}") as fresh:
        yield fresh


def _failure(bench: DriverRig, steps: Sequence[Step]) -> str:
    """Return the message with which a script fails. Empty if it does not fail, or is invalid."""
    try:
        with _fresh(bench) as fresh:
            replay(fresh, steps)
    except InvalidScript:
        return ""
    except Exception as error:
        return "\n".join([str(error), *getattr(error, "__notes__", ())])
    return ""
