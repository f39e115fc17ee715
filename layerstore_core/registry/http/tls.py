"""TLS to the servers of one endpoint: which certificates are trusted, and which is shown."""

from __future__ import annotations

import re
import ssl
import warnings

from urllib3.exceptions import InsecureRequestWarning

from layerstore_core.errors import ConfigError
from layerstore_core.registry.endpoint import Endpoint


def tls_context(endpoint: Endpoint, *, own: bool) -> ssl.SSLContext:
    """Return the settings of TLS.

    Args:
        endpoint: the endpoint, whose settings count for the hosts that it redirects to, too.
        own: whether it is for the endpoint itself: no other host gets to see its client certificate.

    Raises:
        ConfigError: a file of the endpoint cannot be read, or has no certificate or key.
    """
    context = ssl.create_default_context()
    for path in endpoint.ca:
        try:
            context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(endpoint, f"the CA file {path}", error) from None
    if own and endpoint.client_cert is not None:
        try:
            # A key with a pass phrase would ask for it at the terminal.
            context.load_cert_chain(endpoint.client_cert, endpoint.client_key, password=_no_phrase)
        except (OSError, ssl.SSLError, ValueError) as error:
            files = " and ".join(str(path) for path in (endpoint.client_cert, endpoint.client_key) if path)
            raise _unusable(endpoint, f"the client certificate {files}", error) from None
    if not endpoint.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def silence_warnings(host: str) -> None:
    """Have urllib3 not warn of a host whose certificate is not verified, because the settings say so."""
    warnings.filterwarnings(
        "ignore",
        message=f"Unverified HTTPS request is being made to host '{re.escape(host)}'",
        category=InsecureRequestWarning,
    )


def _no_phrase() -> str:
    raise ValueError("the key has a pass phrase; only keys without one can be used")


def _unusable(endpoint: Endpoint, what: str, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
    return ConfigError(f"{endpoint.host}: {what} cannot be used: {reason}")
