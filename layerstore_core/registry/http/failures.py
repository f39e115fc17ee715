"""Errors that a registry answers with, as exceptions: `{"errors": [{"code", "message", "detail"}]}`."""

from __future__ import annotations

import http
import json
import re
from typing import Final

from layerstore_core.registry.credentials import Credentials
from layerstore_core.registry.errors import (
    InvalidAnswer,
    NotInRegistry,
    RegistryDenied,
    RegistryError,
    RegistryUnavailable,
)
from layerstore_core.registry.http.answer import Answer
from layerstore_core.registry.http.broken import ConnectionFailed, TooLong
from layerstore_core.registry.http.retries import TRY_AGAIN, asked_pause
from layerstore_core.registry.http.secrets import Secrets

_MAX_BODY: Final = 64 << 10
#: How many errors of one answer are shown, and how much of each.
_SHOWN: Final = 3
_SHOWN_TEXT: Final = 300
_WARNING = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')


def error_of(host: str, what: str, answer: Answer, secrets: Secrets, credentials: Credentials | None) -> RegistryError:
    """Return the exception for an answer that is an error. It reads the body.

    Args:
        host: the registry, for the message.
        what: what was asked for, in words.
        answer: the answer.
        secrets: what is not to be shown, though the answer may quote it.
        credentials: those for this request; `None` if there are none.
    """
    status = answer.status
    codes, said = errors_in(answer)
    told = f" ({secrets.hide('; '.join(said))})" if said else f" (HTTP {status} {_phrase(status)}".rstrip() + ")"
    pause = asked_pause(answer.header("Retry-After"))
    kind: type[RegistryError] = RegistryError
    if status in (401, 403) or (codes and set(codes) <= {"DENIED", "UNAUTHORIZED"} and status != 404):
        kind = RegistryDenied
        # Registries do not say which names exist to everyone.
        advice = f"log in: layerstore login {host}" if credentials is None else _doubt(credentials)
        message = f"not allowed to {what}, or it is not there{told}; {advice}"
    elif status == 404:
        kind = NotInRegistry
        message = f"cannot {what}{told}" if codes else f"cannot {what}: it is not there{told}"
    elif status in TRY_AGAIN or status >= 500:
        kind = RegistryUnavailable
        asked = f"; it wants to be asked again in {pause:.0f} s" if pause else ""
        message = f"cannot {what} now{told}{asked}"
    elif status < 400:
        kind = InvalidAnswer
        message = f"cannot {what}: the answer is not one to that{told}"
    else:
        message = f"cannot {what}{told}"
    return kind(host, message, status=status, codes=codes, retry_after=pause)


def errors_in(answer: Answer) -> tuple[list[str], list[str]]:
    """Return the codes of an answer, and a text for each error.

    If it is not a registry's error, there are no codes; the only text is a line of plain text, if it is one.
    """
    try:
        data = answer.whole(_MAX_BODY)
    except (ConnectionFailed, TooLong):
        return [], []
    try:
        errors = [error for error in json.loads(data)["errors"] if isinstance(error, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        # Such as a server with TLS that was asked in clear. What proxies send is HTML, and nothing to be read.
        text = data[: 4 * _SHOWN_TEXT].decode("utf-8", "replace").strip()
        return [], [text] if text.isprintable() and len(text) <= _SHOWN_TEXT and "<" not in text and text else []
    codes: list[str] = []
    said: list[str] = []
    for error in errors:
        code, message = error.get("code"), error.get("message")
        codes.append(code if isinstance(code, str) else "UNKNOWN")
        if len(said) < _SHOWN:
            said.append(": ".join(text[:_SHOWN_TEXT] for text in (code, message) if isinstance(text, str) and text))
    return codes[:64], [text for text in said if text]


def warnings_in(header: str) -> list[str]:
    """Return the texts of a header `Warning` that are for users: `299 - "text"` (OCI distribution specification)."""
    return [re.sub(r"\\(.)", r"\1", text)[:_SHOWN_TEXT] for text in _WARNING.findall(header[:_MAX_BODY])]


def _doubt(credentials: Credentials) -> str:
    user = f" of {credentials.username}" if credentials.username else ""
    source = f" from {credentials.source}" if credentials.source else ""
    return f"the credentials{user}{source} are wrong, or have no right to it"


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""
