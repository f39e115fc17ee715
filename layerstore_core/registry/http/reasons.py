"""Why a connection failed, in words: from the exceptions of urllib3 and the standard library."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from urllib3 import exceptions

from layerstore_core.registry.http.bounded import EndlessAnswer, SlowAnswer
from layerstore_core.registry.http.broken import ConnectionFailed


@contextmanager
def failing(timeout: float) -> Iterator[None]:
    """Turn each way in which a request can fail in a `with` block into `ConnectionFailed`."""
    try:
        yield
    except (exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        raise _failure(error, timeout) from None


def _failure(error: BaseException, timeout: float) -> ConnectionFailed:
    if isinstance(error, exceptions.ProxyError):
        inner = _failure(error.original_error, timeout)
        return ConnectionFailed(f"through the proxy: {inner.reason}", lasting=inner.lasting, no_server=True)
    if isinstance(error, exceptions.NameResolutionError):
        return ConnectionFailed("its name is not known: look for a typing error, or a missing network", no_server=True)
    if isinstance(error, exceptions.NewConnectionError):
        return ConnectionFailed(f"no connection: {_system(error) or 'it cannot be reached'}", no_server=True)
    if isinstance(error, exceptions.ConnectTimeoutError):
        return ConnectionFailed("no connection: it does not answer", no_server=True)
    if isinstance(error, (exceptions.ReadTimeoutError, TimeoutError)):
        return ConnectionFailed(f"it was silent for {timeout:g} seconds")
    if isinstance(error, (exceptions.SSLError, ssl.SSLError)):
        return _tls(error)
    if isinstance(error, exceptions.LocationParseError):
        return ConnectionFailed("a URL of its answer is not one", lasting=True)
    if isinstance(error, (exceptions.ProtocolError, http.client.HTTPException, OSError)):
        return ConnectionFailed(_broken(error))
    return ConnectionFailed(f"its answer is not HTTP: {str(error)[:200]}")


def _tls(error: BaseException) -> ConnectionFailed:
    inner: BaseException = error
    while not isinstance(inner, ssl.SSLError) and inner.args and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    if isinstance(inner, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            f"its certificate is not trusted: {inner.verify_message}; name the CA that signed it in the configuration"
            " of this registry",
            lasting=True,
        )
    reason = getattr(inner, "reason", None) or str(inner)
    if "WRONG_VERSION_NUMBER" in str(reason) or "HTTP_REQUEST" in str(reason):
        return ConnectionFailed(
            "it does not speak TLS; if it is meant to be plain HTTP, configure the registry as insecure",
            lasting=True,
            no_server=True,
        )
    if "ALERT" in str(reason) and "CERTIFICATE" in str(reason):
        return ConnectionFailed(
            f"it does not take our certificate, or wants one ({reason}); set client_cert in the table of this registry",
            lasting=True,
        )
    return ConnectionFailed(f"TLS failed: {reason}")


def _broken(error: BaseException) -> str:
    for inner in (error, *error.args):
        if isinstance(inner, http.client.IncompleteRead):
            return "the body of its answer is shorter than announced"
        if isinstance(inner, SlowAnswer):
            return "its answer comes too slowly"
        if isinstance(inner, EndlessAnswer):
            return "its answer has headers without end"
        if isinstance(inner, http.client.RemoteDisconnected):
            return "it closed the connection without an answer"
        if isinstance(inner, (http.client.LineTooLong, http.client.BadStatusLine)) or (
            isinstance(inner, http.client.HTTPException) and not isinstance(inner, OSError)
        ):
            return f"its answer is not HTTP: {str(inner)[:200]}"
    return f"the connection broke: {_system(error) or str(error)[:200]}"


def _system(error: BaseException) -> str:
    """Return what the operating system says, if it is in the exception or a cause of it."""
    seen: BaseException | None = error
    while seen is not None:
        for inner in (seen, *seen.args):
            if isinstance(inner, OSError) and inner.strerror:
                return inner.strerror
        seen = seen.__cause__ or seen.__context__
    return ""
