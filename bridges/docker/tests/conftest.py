"""Servers of vfs for tests."""

from __future__ import annotations

import secrets

import pytest

from .served import serving


@pytest.fixture
def place(tmp_path):
    """A root and a socket that do not exist yet."""
    return tmp_path / "root", tmp_path / "sock"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of vfs on a new root, for all tests of a module."""
    directory = tmp_path_factory.mktemp("served")
    with serving(directory / "root", directory / "sock") as one:
        yield one


@pytest.fixture
def client(served):
    """A client of `served`."""
    one = served.client()
    yield one
    one.close()


@pytest.fixture
def new_id():
    """A function that returns new IDs, as Docker makes them."""
    return lambda: secrets.token_hex(32)
