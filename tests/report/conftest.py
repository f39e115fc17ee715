"""Images to report on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest

from layerstore_core import LayerStore
from layerstore_core.config.rules import rule_of
from layerstore_core.images import Images
from layerstore_core.maintenance.usage import disk_usage
from layerstore_core.report.document import comparison_report, image_report, store_report
from layerstore_core.report.rules import evaluate
from tests import tars
from tests.images.archives import ImageSpec, docker_archive

STATUS = b"""Package: base-files
Status: install ok installed
Architecture: amd64
Version: %s
Installed-Size: 12

Package: %s
Status: install ok installed
Architecture: amd64
Version: 1
Installed-Size: 3

"""
FIRST = [
    tars.tar(
        tars.entry(b"a", b"a" * 5000),
        tars.entry(b"gone/x", b"x" * 3000),
        tars.entry(b"gone/y", b"y" * 10),
        tars.entry(b"same", b"12345678"),
        tars.entry(b"var/lib/dpkg/status", STATUS % (b"12", b"old")),
    ),
    tars.tar(tars.entry(b"a", b"b" * 2000), tars.entry(b".wh.gone"), tars.entry(b"as-well", b"12345678")),
]
SECOND = [
    FIRST[0],
    tars.tar(tars.entry(b"a", b"c" * 7000), tars.entry(b"var/lib/dpkg/status", STATUS % (b"13", b"new"))),
]


@pytest.fixture(params=["vfs"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def images(store: LayerStore) -> Images:
    """The images of a store."""
    return Images(store)


def load(images: Images, layers: Sequence[bytes], name: str, **extra: Any) -> None:
    images.load(io.BytesIO(docker_archive(ImageSpec(layers, [name], extra=extra))))


@pytest.fixture
def documents(images: Images) -> dict[str, dict[str, Any]]:
    """The report of each kind."""
    load(images, FIRST, "app:1")
    load(images, SECOND, "app:2", config={"Cmd": ["/bin/bash"], "User": "me"})
    first, second = images.analyze("app:1"), images.analyze("app:2")
    images._store.create_rw_layer("work").close()
    image = image_report(first)
    rules = [one for one in (rule_of("max", "layers", 2), rule_of("max", "wasted", "1%")) if one]
    image["rules"] = [one.document() for one in evaluate(rules, image)]
    return {
        "image": image,
        "comparison": comparison_report(first, second, images.diff("app:1", "app:2")),
        "store": store_report(disk_usage(images._store)),
    }
