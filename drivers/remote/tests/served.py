"""Remote drivers whose server is started with them."""

from __future__ import annotations

from dataclasses import replace

from layerstore_remote import RemoteDriver
from layerstore_remote.options import RemoteOptions

from .farm import Farm

#: The directory in the driver's home that is the server's root, so that tests find all files of both in one place.
SERVER_ROOT = "server"


class ServedDriver:
    """The factory of remote drivers: each has its server below its own home.

    Args:
        farm: the process that has the servers.
        driver: the server's driver.
        docker_only: whether the server has Docker's methods alone.
        options: options of the remote driver.
    """

    def __init__(self, farm: Farm, driver: str, *, docker_only: bool = False, **options: object) -> None:
        self._farm = farm
        self._driver = driver
        self._docker_only = docker_only
        self._options = options

    def __call__(self, context):
        (context.home / SERVER_ROOT).mkdir(parents=True, exist_ok=True)
        address = self._farm.serve(context.home / SERVER_ROOT, self._driver, docker_only=self._docker_only)
        return RemoteDriver(replace(context, options=RemoteOptions(address=address, **self._options)))
