"""A process that has the same store open and runs statements sent to it; as a program, this module is that process.

Each request and each answer is one line of JSON.
"""

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
    """A process that runs statements, in which `store` is its store; variables that they set stay for later statements.

    Args:
        root: the root of the store.
        driver: the name of an installed driver, or of a class in `tests.store.drivers`.
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
        """Start running statements, with `names` as variables; `answer` waits for their end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([statements, names]) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the statements and return what they have set `answer` to.

        Raises:
            OtherProcessError: the statements raised an error; the message is its traceback.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the other process has died"
        kind, value = json.loads(line)
        if kind == "error":
            raise OtherProcessError(value)
        return value

    def has_answered(self) -> bool:
        """Return whether `answer` need not wait."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def run(self, statements: str, **names: Any) -> Any:
        """Run statements and return what they have set `answer` to."""
        self.start(statements, **names)
        return self.answer()

    def kill(self) -> None:
        """Kill the process with SIGKILL and wait for its end."""
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
    """An error that was raised in the other process, as its traceback."""


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
