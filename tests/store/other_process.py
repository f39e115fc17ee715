"""Another process with the same store open, told by lines what to do; run as a program, it is that process."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

TOP = Path(__file__).resolve().parents[2]


class OtherProcess:
    """Runs statements in the other process, where `store` is its store, and whatever they name stays.

    Args:
        root: the store's.
        driver: an installed driver's name, or that of a class in `tests.store.drivers`.
    """

    def __init__(self, root: Path, driver: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(root), driver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=TOP,
            env={"PYTHONPATH": str(TOP), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
            text=True,
        )
        self.pid = self._process.pid
        self.answer()

    def start(self, statements: str, **names: Any) -> None:
        """Begin to run statements; `answer` waits for their end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([statements, names]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What the statements have put into `answer`; an error that they raised is raised here, by its name."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the other process has died"
        kind, value = json.loads(line)
        if kind == "error":
            raise OtherProcessError(value)
        return value

    def has_answered(self) -> bool:
        """Whether `answer` need not wait."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def run(self, statements: str, **names: Any) -> Any:
        self.start(statements, **names)
        return self.answer()

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> OtherProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(30)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.kill()
        self._process.stdout.close()


class OtherProcessError(Exception):
    """What was raised in the other process, as it was printed there."""


def _serve(root: str, driver: str) -> None:
    from layerstore_core import LayerStore, StoreConfig
    from tests.store import drivers

    if hasattr(drivers, driver):
        store = drivers.open_with(getattr(drivers, driver), Path(root))
    else:
        store = LayerStore.open(StoreConfig(root=Path(root), driver=driver, durability="none"))
    names: dict[str, Any] = {"store": store}
    with store:
        _say("ready", None)
        for line in sys.stdin:
            statements, given = json.loads(line)
            names.update(given, answer=None)
            try:
                exec(statements, names)
                _say("answer", names["answer"])
            except Exception:
                _say("error", traceback.format_exc())


def _say(kind: str, value: Any) -> None:
    print(json.dumps([kind, value]), flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
