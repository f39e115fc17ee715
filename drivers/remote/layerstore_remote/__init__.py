"""The remote driver: the layers are kept by a server in another process, which speaks Docker's plugin protocol."""

from layerstore_remote.driver import RemoteDriver
from layerstore_remote.errors import BadAnswer, OtherHome, ServerError, ServerUnavailable

__all__ = ["BadAnswer", "OtherHome", "RemoteDriver", "ServerError", "ServerUnavailable"]
