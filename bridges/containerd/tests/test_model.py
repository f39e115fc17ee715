"""Random calls, by two clients, against a model: every answer is the model's, and so is the list at the end."""

from __future__ import annotations

from typing import Any

import grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layerstore_containerd.messages import KIND_ACTIVE, KIND_COMMITTED, KIND_VIEW

from .client import Client, Server, code
from .model import Model, Refused

KINDS = {KIND_VIEW: "view", KIND_ACTIVE: "active", KIND_COMMITTED: "committed"}

keys = st.sampled_from(["", "a", "b/c", "d e", "ü"])
labels = st.dictionaries(st.sampled_from(["x", "y.z"]), st.sampled_from(["", "1"]))
fields = st.lists(st.sampled_from(["labels", "labels.x", "labels.y.z", "labels.", "kind"]), max_size=2)
calls = st.lists(
    st.one_of(
        st.tuples(st.just("prepare"), keys, keys, labels),
        st.tuples(st.just("view"), keys, keys, labels),
        st.tuples(st.just("commit"), keys, keys, labels),
        st.tuples(st.just("remove"), keys),
        st.tuples(st.just("mounts"), keys),
        st.tuples(st.just("stat"), keys),
        st.tuples(st.just("update"), keys, labels, fields),
    ),
    max_size=25,
)


def on_model(model: Model, name: str, arguments: tuple[Any, ...]) -> str:
    try:
        if name in ("prepare", "view"):
            key, parent, given = arguments
            model.new(key, parent, "active" if name == "prepare" else "view", given)
        else:
            getattr(model, name)(*arguments)
    except Refused as refused:
        return str(refused)
    return "OK"


def on_server(client: Client, name: str, arguments: tuple[Any, ...]) -> str:
    try:
        getattr(client, name)(*arguments)
    except grpc.RpcError as error:
        return code(error)
    return "OK"


@settings(max_examples=settings().max_examples // 4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls)
def test_server_answers_as_the_model(shared_server: Server, sequence: list[tuple[Any, ...]]) -> None:
    model = Model()
    with shared_server.client() as one, shared_server.client() as two:
        try:
            for number, (name, *arguments) in enumerate(sequence):
                client = (one, two)[number % 2]
                expected = on_model(model, name, tuple(arguments))
                assert on_server(client, name, tuple(arguments)) == expected, (name, arguments)
            found = {info.name: (info.parent, KINDS[info.kind], dict(info.labels)) for info in one.list()}
            assert found == {key: (entry.parent, entry.kind, entry.labels) for key, entry in model}
        finally:
            for name in reversed(one.names()):
                one.remove(name)
