"""Changing a config by options: what is set, replaced, removed, and what follows from that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core import ConfigOptions, ImageConfig

WHEN = "2024-05-06T07:08:09Z"
BASE = {
    "created": "2020-01-01T00:00:00Z",
    "config": {
        "Hostname": "x",
        "Env": ["PATH=/bin", "A=1", "B=2", "C=3", "EMPTY"],
        "Entrypoint": ["/bin/busybox"],
        "Cmd": ["echo", "hi"],
        "WorkingDir": "/a/b",
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/data": {}},
        "Labels": {"l": "1", "k": "2"},
        "User": "me",
        "StopSignal": "TERM",
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5},
    },
    "rootfs": {"type": "layers", "diff_ids": []},
}


def changed(base: Any = None, **options: Any) -> dict[str, Any]:
    """Return the changes in the object `config`: the new values, `None` for those that were removed."""
    base = BASE if base is None else base
    config = ImageConfig.parse(json.dumps(base).encode())
    ConfigOptions.parse(created=WHEN, **options).apply(config)
    document = json.loads(config.to_bytes())
    assert document["created"] == WHEN
    before, after = base.get("config") or {}, document["config"] or {}
    return {key: after.get(key) for key in [*before, *after] if before.get(key) != after.get(key)}


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"env": ["B=9", "D=a=b", "A="]}, {"Env": ["PATH=/bin", "A=", "B=9", "C=3", "EMPTY", "D=a=b"]}),
        ({"env": ["B-", "NONE-", "EMPTY=1"]}, {"Env": ["PATH=/bin", "A=1", "C=3", "EMPTY=1"]}),
        ({"env": ["B=8", "B=9"]}, {"Env": ["PATH=/bin", "A=1", "B=9", "C=3", "EMPTY"]}),
        ({"env": ["B=8", "B-"]}, {"Env": ["PATH=/bin", "A=1", "C=3", "EMPTY"]}),
        ({"env": ["D-=x"]}, {"Env": ["PATH=/bin", "A=1", "B=2", "C=3", "EMPTY", "D-=x"]}),
        ({"entrypoint": '["/bin/sh"]'}, {"Entrypoint": ["/bin/sh"], "Cmd": None}),
        ({"entrypoint": "sh -x"}, {"Entrypoint": ["/bin/sh", "-c", "sh -x"], "Cmd": None}),
        ({"entrypoint": '["/bin/sh"]', "cmd": '["a"]'}, {"Entrypoint": ["/bin/sh"], "Cmd": ["a"]}),
        ({"entrypoint": "", "cmd": "a b"}, {"Entrypoint": None, "Cmd": ["/bin/sh", "-c", "a b"]}),
        ({"entrypoint": "[]"}, {"Entrypoint": None, "Cmd": None}),
        ({"cmd": "[]"}, {"Cmd": None}),
        ({"cmd": ""}, {"Cmd": None}),
        ({"user": "x:y"}, {"User": "x:y"}),
        ({"user": ""}, {"User": None}),
        ({"workdir": "c"}, {"WorkingDir": "/a/b/c"}),
        ({"workdir": ""}, {"WorkingDir": None}),
        ({"labels": ["l=2", "m=a b", "k-"]}, {"Labels": {"l": "2", "m": "a b"}}),
        ({"expose": ["53/udp", "80-", "100-101"]}, {"ExposedPorts": {"53/udp": {}, "100/tcp": {}, "101/tcp": {}}}),
        ({"expose": ["80-81/tcp-"]}, {"ExposedPorts": None}),
        ({"volumes": ["/data-"], "labels": ["l-", "k-"]}, {"Volumes": None, "Labels": None}),
        ({"env": [f"{key}-" for key in ("PATH", "A", "B", "C", "EMPTY")]}, {"Env": None}),
        ({"volumes": ["/a", "/data-", '["/b-"]']}, {"Volumes": {"/a": {}, "/b-": {}}}),
        ({"stop_signal": "9"}, {"StopSignal": "9"}),
        ({"stop_signal": ""}, {"StopSignal": None}),
        ({"healthcheck": "NONE"}, {"Healthcheck": {"Test": ["NONE"]}}),
        ({"healthcheck": ""}, {"Healthcheck": None}),
        (
            {"healthcheck": '--retries=2 --interval=1s CMD ["a"]'},
            {"Healthcheck": {"Test": ["CMD", "a"], "Interval": 1_000_000_000, "Retries": 2}},
        ),
        ({"author": "me", "message": "hi", "annotations": ["a=b"]}, {}),
    ],
    ids=str,
)
def test_options_change_what_they_name(options: dict[str, Any], changes: dict[str, Any]) -> None:
    assert changed(**options) == changes


def test_a_line_runs_in_the_shell_of_the_config() -> None:
    assert changed({"config": {"Shell": ["/bin/bash", "-ec"]}, "rootfs": {}}, cmd="x") == {
        "Cmd": ["/bin/bash", "-ec", "x"]
    }


@pytest.mark.parametrize("base", [{"rootfs": {}}, {"config": None, "rootfs": {}}, {"config": {}, "rootfs": {}}])
def test_a_config_without_anything_can_be_changed(base: Any) -> None:
    options = {"env": ["A=1"], "workdir": "x", "expose": ["1"], "volumes": ["/v"], "labels": ["l="], "cmd": '["x"]'}
    assert changed(base, **options) == {
        "Env": ["A=1"],
        "WorkingDir": "/x",
        "ExposedPorts": {"1/tcp": {}},
        "Volumes": {"/v": {}},
        "Labels": {"l": ""},
        "Cmd": ["x"],
    }


@pytest.mark.parametrize(
    "run", [{}, {"config": None}, {"config": {}}, {"config": {"Labels": None, "Env": []}}], ids=str
)
def test_removing_what_is_not_there_changes_nothing(run: Any) -> None:
    config = ImageConfig.parse(json.dumps({**run, "rootfs": {}}).encode())
    ConfigOptions.parse(
        created=WHEN, env=["A-"], labels=["l-"], expose=["80-"], volumes=["/v-"], user="", cmd="", healthcheck=""
    ).apply(config)
    assert json.loads(config.to_bytes()) == {**run, "rootfs": {}, "created": WHEN}


def test_author_and_time_belong_to_the_image() -> None:
    config = ImageConfig.scratch()
    ConfigOptions(author="me", created="0").apply(config)
    assert (config.author, config.created) == ("me", "1970-01-01T00:00:00Z")
    ConfigOptions(author="").apply(config)
    assert "author" not in json.loads(config.to_bytes())


def test_python_has_mappings_and_lists() -> None:
    config = ImageConfig.scratch()
    ConfigOptions(env={"A": "1", "B": None}, cmd=["a", "b"], labels={"x": "y"}).apply(config)
    assert config.config is not None
    assert (config.config.env, config.config.cmd, config.config.labels) == (["A=1"], ["a", "b"], {"x": "y"})


def test_annotations_are_merged() -> None:
    options = ConfigOptions.parse(annotations=["a=2", "b-", "c=3"])
    assert options.new_annotations({"a": "1", "b": "1", "z": "1"}) == {"a": "2", "z": "1", "c": "3"}


def test_instructions_say_what_was_changed() -> None:
    options = ConfigOptions.parse(
        env=["A=1", "B-"], cmd='["a","b"]', entrypoint="x y", user="", expose=["80"], labels=["l=1"], volumes=["/v-"],
        healthcheck="NONE", workdir="/w", author="me", stop_signal="9", annotations=["a=b"],
    )  # fmt: skip
    assert options.instructions == [
        "ENV A=1", "ENV B-", "ENTRYPOINT x y", 'CMD ["a", "b"]', "USER -", "WORKDIR /w", "STOPSIGNAL 9",
        "HEALTHCHECK NONE", "LABEL l=1", "EXPOSE 80", "VOLUME /v-",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": ["A"]}, "'A' is no pair; write KEY=VALUE, or KEY- to remove the key"),
        ({"env": ["=x"]}, "the name of a variable of the environment is empty"),
        ({"env": ["-"]}, "'-' is no pair"),
        ({"env": ["A=\udcff"]}, "is not UTF-8"),
        ({"env": ["A=\0"]}, "zero byte"),
        ({"labels": [" =x"]}, "the name of a label is empty"),
        ({"annotations": ["x"]}, "'x' is no pair"),
        ({"user": " x"}, "has blanks around it"),
        ({"user": "\udcff"}, "the user is not UTF-8"),
        ({"expose": ["x"]}, "'x' is not a port"),
        ({"expose": ["-"]}, "'-' is not a port"),
        ({"volumes": [""]}, "is empty"),
        ({"stop_signal": "SIGFOO"}, "is not a signal"),
        ({"healthcheck": "x"}, "is not a healthcheck"),
        ({"created": "x"}, "is not a time"),
        ({"cmd": '["\\u0000"]'}, "zero byte"),
        ({"message": "\udcff"}, "the message is not UTF-8"),
    ],
    ids=str,
)
def test_bad_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        ConfigOptions.parse(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize("options", [{"env": ["A=b"]}, {"expose": "80"}, {"user": 1}, {"cmd": [1]}], ids=str)
def test_arguments_of_another_type_are_refused(options: Any) -> None:
    with pytest.raises(TypeError):
        ConfigOptions(**options)


NAMES = st.sampled_from("ABCD")
ENVIRONMENT = st.lists(st.tuples(NAMES, st.text("xy=", max_size=3)), unique_by=lambda pair: pair[0], max_size=4)


@given(ENVIRONMENT, st.dictionaries(NAMES, st.none() | st.text("xy=", max_size=3), max_size=4))
def test_environments_are_changed_as_dictionaries_are(old: list[tuple[str, str]], new: dict[str, str | None]) -> None:
    """A dictionary keeps its order when a value is replaced, too."""
    config = ImageConfig.scratch()
    config.execution.env = [f"{key}={value}" for key, value in old]
    ConfigOptions(env=new).apply(config)
    expected = {key: value for key, value in {**dict(old), **new}.items() if value is not None}
    assert (config.execution.env or []) == [f"{key}={value}" for key, value in expected.items()]
