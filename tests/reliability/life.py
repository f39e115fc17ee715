"""What is done to a store before the power goes, and what must be there afterwards.

The one who works says what he does: `begins` before a call, when its outcome may be either way, and `is_so` when it
has returned. From the log of these words an `Expectation` tells at any point what has been promised.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerstore_core import LayerStore
from layerstore_core.base.digests import DiffID
from layerstore_core.images import Images
from layerstore_core.store.register_chain import LayerInput
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import BASE, MIDDLE, TOP, names_of, register, tar_of

Say = Callable[[bytes], None]

#: Enough for the data of a layer not to be written along with the names by chance.
BIG = tar_of({"usr": None, **{f"usr/{n:03}": bytes([n]) * 9000 for n in range(40)}})
IMAGE = ImageSpec([BASE, MIDDLE, tar_of({"new": b"new" * 5000})], names=["demo:1"])


class Words:
    """Says what is done.

    Args:
        say: takes each word down, and returns when it has been.
    """

    def __init__(self, say: Say) -> None:
        self._say = say

    def begins(self, *facts: str) -> None:
        """A call begins, after which these facts may have changed."""
        self._say(json.dumps(["begins", *facts]).encode())

    def is_so(self, **facts: Any) -> None:
        """A call has returned, and promises these facts; `None` for what is not there."""
        self._say(json.dumps(["is", facts]).encode())


@dataclass
class Expectation:
    """What is promised at one point.

    Attributes:
        certain: facts, by name.
        open: facts that are under way.
    """

    certain: dict[str, Any] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def hear(self, word: bytes) -> None:
        kind, *rest = json.loads(word)
        if kind == "begins":
            self.open.update(rest)
        else:
            self.certain.update(rest[0])
            self.open.difference_update(rest[0])

    def broken_by(self, found: dict[str, Any]) -> list[str]:
        """The promises that are not kept, in words."""
        return [
            f"{name} is {found.get(name)!r}, not {value!r}"
            for name, value in sorted(self.certain.items())
            if name not in self.open and found.get(name) != value
        ]


def facts_of(store: LayerStore) -> dict[str, Any]:
    """What there is. Every layer's tar is put together and verified."""
    found: dict[str, Any] = {}
    for chain, layer in store.layers().items():
        with layer.tar_stream() as stream:
            found[f"layer {chain}"] = DiffID.of(stream.read())
    found.update({f"pin {chain}": True for chain in store.pins()})
    for name in store.rw_layers():
        rw = store.get_rw_layer(name)
        with rw.mounted() as path:
            found[f"rw {name}"] = Path(path, "init").is_file()
        rw.close()
    images = Images(store)
    found.update({f"image {name}": image.image_id for image in images.all() for name in image.names})
    return found


def furnish(store: LayerStore) -> dict[str, Any]:
    """Give a store some of everything, to be kept; what it then has."""
    base, middle = register(store, BASE), register(store, MIDDLE, names_of(BASE)[0])
    with base, middle, register(store, BIG) as big:
        store.pin(middle)
        store.pin(big)
        store.create_rw_layer("box", middle.chain_id, init=_init).close()
        Images(store).load(io.BytesIO(docker_archive(IMAGE)))
        return facts_of(store)


def _init(path: str) -> None:
    Path(path, "init").write_bytes(b"init")


def live(store: LayerStore, words: Words) -> None:
    """A layer's life, a writable layer's, an image's: each change is announced, and promised when it has returned."""
    base, middle = names_of(BASE, MIDDLE)
    (big,) = names_of(BIG)
    chained = names_of(BASE, MIDDLE, TOP)[2]
    image_top = names_of(*IMAGE.layers)[2]

    words.begins(f"layer {base}")
    lower = register(store, BASE)
    words.is_so(**{f"layer {base}": DiffID.of(BASE)})
    words.begins(f"pin {base}")
    store.pin(lower)
    words.is_so(**{f"pin {base}": True})

    words.begins(f"layer {middle}")
    upper = store.register(io.BytesIO(MIDDLE), base, descriptor={"size": len(MIDDLE)})
    words.is_so(**{f"layer {middle}": DiffID.of(MIDDLE)})

    words.begins("rw box")
    box = store.create_rw_layer("box", middle, init=_init)
    words.is_so(**{"rw box": True})
    with box.mounted() as path:
        Path(path, "written").write_bytes(b"written" * 10_000)
    with box.tar_stream() as stream:
        diff = stream.read()
    committed = names_of(BASE, MIDDLE, diff)[2]
    words.begins(f"layer {committed}")
    commit = register(store, diff, middle)
    words.is_so(**{f"layer {committed}": DiffID.of(diff)})

    words.begins("rw box")
    store.release_rw_layer(box)
    words.is_so(**{"rw box": None})
    words.begins(f"layer {committed}")
    store.release(commit)
    words.is_so(**{f"layer {committed}": None})

    words.begins(f"layer {big}", f"pin {big}")
    layer = register(store, BIG)
    words.is_so(**{f"layer {big}": DiffID.of(BIG)})
    store.pin(layer)
    words.is_so(**{f"pin {big}": True})

    words.begins(f"layer {chained}")
    inputs = [
        LayerInput(lambda tar=tar: io.BytesIO(tar), DiffID.of(tar), "a layer")  # type: ignore[misc]
        for tar in (BASE, MIDDLE, TOP)
    ]
    top = store.register_chain(inputs)
    words.is_so(**{f"layer {chained}": DiffID.of(TOP)})
    words.begins(f"layer {chained}")
    store.release(top)
    words.is_so(**{f"layer {chained}": None})

    images = Images(store)
    words.begins(f"layer {image_top}", "image demo:1")
    images.load(io.BytesIO(docker_archive(IMAGE)))
    words.is_so(**{f"layer {image_top}": DiffID.of(IMAGE.layers[2]), "image demo:1": IMAGE.image_id})
    words.begins("image demo:2")
    images.tag("demo:1", "demo:2")
    words.is_so(**{"image demo:2": IMAGE.image_id})
    words.begins("image demo:1", "image demo:2", f"layer {image_top}")
    images.remove("demo:1")
    words.is_so(**{"image demo:1": None})
    images.remove("demo:2")
    words.is_so(**{"image demo:2": None, f"layer {image_top}": None})

    words.begins(f"pin {big}", f"layer {big}")
    store.unpin(big)
    words.is_so(**{f"pin {big}": None})
    store.release(layer)
    words.is_so(**{f"layer {big}": None})
    words.begins(f"layer {middle}")
    store.release(upper)
    words.is_so(**{f"layer {middle}": None})
    lower.close()
