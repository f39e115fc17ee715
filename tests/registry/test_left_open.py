"""A client that is closed leaves no connection, whatever the answers were."""

from __future__ import annotations

from contextlib import suppress

import pytest

from layerstore_core.registry import Registry, RegistryError
from tests.registry.fake_content import digest_of
from tests.registry.fake_registry import FakeRegistry

DATA = b"0123456789" * 1000


def ask_all(registry: Registry) -> None:
    """Make calls of all kinds, of which some or all fail."""
    with suppress(RegistryError):
        registry.ping()
    with suppress(RegistryError):
        registry.manifest("app", "1")
    with suppress(RegistryError):
        registry.manifest_info("app", "1")
    with suppress(RegistryError):
        list(registry.tags("app"))
    for size in (1, 1 << 20):
        with suppress(RegistryError), registry.blob("app", digest_of(DATA)) as response:
            response.read(size)
    with suppress(RegistryError):
        registry.mount_blob("other", digest_of(DATA), "app")
    with suppress(RegistryError):
        registry.upload_blob("other", digest_of(DATA), len(DATA), lambda: [DATA])


@pytest.mark.usefixtures("nothing_left_open", "pauses")
@pytest.mark.parametrize("fault", ["", "error", "html", "busy", "cut", "hang_up", "reset", "endless", "flip_byte"])
def test_no_connection_is_left(fault: str) -> None:
    with FakeRegistry() as fake:
        fake.add_blob("app", DATA)
        fake.add_image("app", [DATA], "1", config={})
        rule = fake.faults.on("")
        make = {
            "": lambda: None,
            "error": lambda: rule.error(404, "MANIFEST_UNKNOWN"),
            "cut": lambda: rule.cut(3),
        }
        (make.get(fault) or getattr(rule, fault))()
        with Registry(fake.host, settings={}, timeout=5) as registry:
            ask_all(registry)
