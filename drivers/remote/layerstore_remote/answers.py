"""Reading of a server's answers: each value has the type that the protocol gives it, or the answer is refused."""

from __future__ import annotations

import errno
import json
from typing import Any, Final, TypeVar

from layerstore_core import errors
from layerstore_core.errors import BadRecord, InvalidLayer, LayerStoreError
from layerstore_remote.errors import BadAnswer, ServerError, quoted

_T = TypeVar("_T")
_LONGEST_ERRNO: Final = 4095
#: The errors of system calls that the contract names, for a server that gives their class alone.
_ERRNOS: Final = {"FileExistsError": errno.EEXIST, "FileNotFoundError": errno.ENOENT, "PermissionError": errno.EACCES}


class Answer:
    """One answer of a server.

    Args:
        address: the server's socket.
        method: what was called.
        status: the status of HTTP.
        body: the answer's body.

    Raises:
        BadAnswer: the body is no JSON object.
    """

    def __init__(self, address: str, method: str, status: int, body: bytes) -> None:
        self._address = address
        self._method = method
        self.status: Final = status
        self._fields: dict[str, Any] = {}
        try:
            fields = json.loads(body) if body.strip() else {}
        except (ValueError, RecursionError):
            if status == 200:
                raise self.bad("no JSON") from None
            # Docker takes the body of such an answer as the text of the error.
            fields = {"Err": body.decode("utf-8", "backslashreplace").strip()}
        if not isinstance(fields, dict):
            raise self.bad("no JSON object")
        self._fields = fields

    def bad(self, what: str) -> BadAnswer:
        """Return the error that the answer has `what`, which it must not have."""
        return BadAnswer(
            f"the server at {self._address} answers {self._method} with {what}: it does not follow the protocol of "
            "graph driver plugins; see its log and its version"
        )

    def get(self, name: str, kind: type[_T], default: _T | None = None) -> _T:
        """Return a field.

        Args:
            name: the field.
            kind: its type.
            default: its value if it is missing, or null. Servers leave out what is empty.

        Raises:
            BadAnswer: it has another type.
        """
        value = self._fields.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.bad(f"a field {name} that is {_kind_of(value)}")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a field that is a list of texts; empty if it is missing.

        Raises:
            BadAnswer: it is something else.
        """
        found: list[Any] = self.get(name, list, [])
        if not all(isinstance(one, str) for one in found):
            raise self.bad(f"a list {name} in which not everything is text")
        return found

    def path_bytes(self, text: str) -> bytes:
        """Return a path of a layer, which may have bytes that are not UTF-8, as bytes.

        Raises:
            BadAnswer: it has characters that stand for no bytes.
        """
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise self.bad(f"a path that is no path: {quoted(text)}") from None

    def size(self, name: str) -> int:
        """Return a field that is a size in bytes; 0 if it is missing.

        Raises:
            BadAnswer: it is something else.
        """
        value = self.get(name, int, 0)
        if value < 0:
            raise self.bad(f"a size of {value}")
        return value

    def has(self, name: str) -> bool:
        """Return whether the answer has a field that is not null."""
        return self._fields.get(name) is not None

    def error(self) -> Exception | None:
        """Return the error that the server has answered with; `None` if there is none.

        Raises:
            BadAnswer: the error is no text.
        """
        text = quoted(self.get("Err", str, ""))
        if not text:
            if self.status == 200:
                return None
            text = f"status {self.status}"
        error = self._classified(text)
        error.add_note(f"so the server at {self._address} has answered {self._method}")
        return error

    def _classified(self, text: str) -> Exception:
        name = self.get("Class", str, "")
        number = self._fields.get("Errno")
        if type(number) is int and 0 < number <= _LONGEST_ERRNO:
            return self._system_error(number, text)
        reason = quoted(self.get("Reason", str, text))
        if name in _ERRNOS:
            return self._system_error(_ERRNOS[name], text)
        if name == "InvalidLayer":
            entry, offset = self.path_bytes(self.get("Entry", str, "")), self._fields.get("Offset")
            return InvalidLayer(reason, offset=offset if type(offset) is int else None, entry=entry or None)
        if name == "BadRecord" and self.has("Path"):
            return BadRecord(quoted(self.get("Path", str)), reason)
        known = getattr(errors, name, None) if name.isidentifier() else None
        if isinstance(known, type) and issubclass(known, LayerStoreError):
            try:
                return known(text)
            except TypeError:
                return LayerStoreError(text)
        return ServerError(f"the server at {self._address}: {text}")

    def _system_error(self, number: int, text: str) -> OSError:
        """Return the error of a system call. What Python adds to its text again is left out."""
        path = quoted(self.get("Path", str, ""))
        if path:
            return OSError(number, text.removeprefix(f"{path}: "), path)
        return OSError(number, text)


def _kind_of(value: object) -> str:
    return "missing" if value is None else f"a JSON {type(value).__name__}"
