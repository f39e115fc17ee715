"""Any sequence of faults while an image is pulled: it is right, or there is an error; and the next pull goes on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerstore_core import LayerStore, LayerStoreError
from layerstore_core.images import Images
from layerstore_core.images.remote.receive.leftovers import downloads_directory
from layerstore_core.maintenance.check import check_store
from tests.images.remote.published import layer, publish, sent, spec
from tests.images.remote.test_hostile_images import check_error
from tests.registry.fake_auth import TokenAuth
from tests.registry.fake_registry import FakeRegistry
from tests.registry.faults import Rule

APP = spec(layer(1, 200_000), layer(2, 70_000), layer(3, 10))
TOTAL = sum(map(len, APP.blobs))

FAULTS: dict[str, Callable[[Rule, int], Any]] = {
    "none": lambda rule, size: None,
    "cut": lambda rule, size: rule.cut(size),
    "reset": lambda rule, size: rule.reset(size),
    "hang up": lambda rule, size: rule.hang_up(),
    "busy": lambda rule, size: rule.busy(after=size % 3),
    "error": lambda rule, size: rule.html(500 + size % 4),
    "ignore range": lambda rule, size: rule.ignore_range(),
    "wrong range": lambda rule, size: rule.wrong_range(f"bytes {size}-{size}/{TOTAL}"),
    "short": lambda rule, size: rule.short(size),
    "long": lambda rule, size: rule.long(size),
    "wrong byte": lambda rule, size: rule.flip_byte(size % 7),
    "gzip": lambda rule, size: rule.gzip(),
    "no length": lambda rule, size: rule.without_length(),
    "cut, no length": lambda rule, size: rule.without_length().cut(size),
    "missing": lambda rule, size: rule.error(404, "BLOB_UNKNOWN"),
    "token ends": lambda rule, size: rule.then(lambda: None),
}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    clock = SimpleNamespace(sleep=lambda _: None, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("layerstore_core.registry.http.retries.time", clock)


def files_left(store: LayerStore) -> list[str]:
    return [path.name for path in downloads_directory(store.root).rglob("*") if path.is_file()]


def test_a_pull_is_right_or_fails_and_the_next_one_goes_on(store: LayerStore, images: Images) -> None:
    auth = TokenAuth()

    @settings(suppress_health_check=list(HealthCheck), max_examples=settings().max_examples // 4)
    @given(st.lists(st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(0, 100_000)), max_size=12), st.booleans())
    def pull(faults: list[tuple[str, int]], redirect: bool) -> None:
        fake.settings.redirect = redirect
        fake.faults.clear()
        fake.log.clear()
        pattern, server = (r"GET /signed", "storage") if redirect else (r"GET .*/blobs/", "registry")
        for number, (fault, size) in enumerate(faults):
            # Each is for one of the requests for layers: the config comes first.
            rule = fake.faults.on(pattern, skip=1 + number, times=1, server=server)
            FAULTS[fault](rule, size)
            if fault == "token ends":
                rule.then(auth.expire)
        name = f"{fake.host}/app:1"
        try:
            pulled = images.pull(name)
        except LayerStoreError as error:
            check_error(error)
            assert images.all() == []
            fake.faults.clear()
            fake.log.clear()
            pulled = images.pull(name)
            # Bytes that turn out to be wrong are received again, once.
            assert sent(fake) <= 2 * TOTAL
        assert [image.image_id for image in pulled] == [APP.image_id]
        assert files_left(store) == []
        images.remove(name)

    with FakeRegistry(auth=auth) as fake:
        publish(fake, APP, "1")
        pull()
    assert check_store(store, full=True) == []
