"""The model of a config: the same bytes if nothing is changed, keys in their places if something is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core import (
    ConfigDocument,
    ConfigOptions,
    ExecutionConfig,
    Healthcheck,
    HistoryStep,
    ImageConfig,
    ImageID,
    InvalidImage,
    Platform,
)
from layerstore_core.images.config.model import MAX_MODEL_VALUES
from layerstore_core.images.make import rebase
from layerstore_core.images.make.record import add_step

DIFF_ID = "sha256:" + "7" * 64
#: Awkward on purpose: white space, an escape, keys out of order, keys that no specification knows, `null`.
DOCUMENT = (
    b'{ "os": "linux", "vendor": {"b": 1, "a": [2.50, {"z": null}]},\n "architecture": "amd64", "os.version": "1",'
    b' "config": {"Labels": {"z": "\\u00e9", "a": "b"}, "Env": null, "Cmd": "sh", "Hostname": "", "working_dir": 1},'
    b' "rootfs": {"diff_ids": ["' + DIFF_ID.encode() + b'"], "type": "layers", "base_layer": "x"},'
    b' "history": [{"created_by": "x", "when": 5, "created": "2024-01-01T00:00:00Z"}]}\n'
)


def test_an_unchanged_config_has_the_same_bytes() -> None:
    config = ImageConfig.parse(DOCUMENT)
    assert config.to_bytes() == DOCUMENT
    assert config.model_copy(deep=True).to_bytes() == DOCUMENT
    assert ImageConfig.of(ConfigDocument.parse(DOCUMENT, "it")).to_document().image_id == ImageID.of(DOCUMENT)


def test_a_change_that_is_undone_gives_the_same_bytes() -> None:
    config = ImageConfig.parse(DOCUMENT)
    config.os = "plan9"
    assert config.to_bytes() != DOCUMENT
    config.os = "linux"
    assert config.to_bytes() == DOCUMENT


def test_a_changed_config_keeps_the_order_and_the_unknown_keys() -> None:
    config = ImageConfig.parse(DOCUMENT)
    assert config.config is not None
    config.config.env = ["A=é"]
    config.config.user = "nobody"
    config.author = "somebody"
    config.history = [*(config.history or ()), HistoryStep(created_by="y", created="now")]
    assert config.to_bytes().decode() == (
        '{"os":"linux","vendor":{"b":1,"a":[2.5,{"z":null}]},"architecture":"amd64","os.version":"1",'
        '"config":{"Labels":{"z":"é","a":"b"},"Env":["A=é"],"Cmd":["sh"],"Hostname":"","working_dir":1,"User":"nobody"},'
        f'"rootfs":{{"diff_ids":["{DIFF_ID}"],"type":"layers","base_layer":"x"}},'
        '"history":[{"created_by":"x","when":5,"created":"2024-01-01T00:00:00Z"},{"created":"now","created_by":"y"}],'
        '"author":"somebody"}'
    )
    assert ImageConfig.parse(config.to_bytes()).to_bytes() == config.to_bytes()


def test_fields_have_names_of_python_and_values_of_docker() -> None:
    config = ImageConfig.parse(DOCUMENT)
    assert config.config is not None
    assert (config.os_version, config.config.cmd, config.config.labels) == ("1", ["sh"], {"z": "é", "a": "b"})
    assert config.config.model_extra == {"Hostname": ""}
    assert config.diff_ids == (DIFF_ID,)


def test_a_config_that_is_made_has_its_keys_in_the_order_of_the_specification() -> None:
    config = ImageConfig.scratch(Platform("linux", "arm", "v7"))
    config.config = ExecutionConfig(cmd=["b"], entrypoint=["a"], healthcheck=Healthcheck(retries=1, test=["NONE"]))
    config.created = "2024-01-01T00:00:00Z"
    assert config.to_bytes() == (
        b'{"created":"2024-01-01T00:00:00Z","architecture":"arm","os":"linux","variant":"v7",'
        b'"config":{"Entrypoint":["a"],"Cmd":["b"],"Healthcheck":{"Test":["NONE"],"Retries":1}},'
        b'"rootfs":{"type":"layers","diff_ids":[]},"history":[]}'
    )


def test_scratch_is_for_this_machine() -> None:
    here = Platform.of_this_host()
    assert (ImageConfig.scratch().os, ImageConfig.scratch().architecture) == (here.os, here.architecture)


def test_execution_is_created_where_it_is_missing() -> None:
    config = ImageConfig.parse(b'{"config":null,"rootfs":{}}')
    config.execution.user = "me"
    assert config.to_bytes() == b'{"config":{"User":"me"},"rootfs":{}}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
KNOWN = {field.alias or name for name, field in ImageConfig.model_fields.items()}


@given(st.dictionaries(st.text(max_size=12).filter(lambda key: key not in KNOWN), JSON, max_size=6), st.integers(0, 9))
def test_unknown_keys_of_any_kind_are_kept(unknown: dict[str, Any], place: int) -> None:
    items = list(unknown.items())
    document = dict([*items[:place], ("rootfs", {"diff_ids": None}), *items[place:]])
    data = json.dumps(document, indent=2).encode()
    config = ImageConfig.parse(data)
    assert config.to_bytes() == data
    config.author = "a"
    changed = json.loads(config.to_bytes())
    assert changed == {**document, "author": "a"}
    assert list(changed) == [*document, "author"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is not JSON"),
        (b"[]", "it is not usable: the document: "),
        (b"null", "it is not usable: the document: "),
        (b"{}", "it: it is no image's config: its rootfs has no list of diff_ids"),
        (b'{"rootfs":{"diff_ids":["sha256:1"]}}', "it: "),
        (b'{"rootfs":{},"config":{"Env":{}}}', "it is not usable: config.Env: "),
        (b'{"rootfs":{},"config":{"Env":["A=b",1]}}', "it is not usable: config.Env.1: "),
        (b'{"rootfs":{},"history":[{"empty_layer":1}]}', "it is not usable: history.0.empty_layer: "),
        (b'{"rootfs":{},"config":{"Memory":"1"}}', "it is not usable: config.Memory: "),
        (b'{"rootfs":{},"a":1e999}', "it cannot be written as JSON"),
        (b'{"rootfs":{},"a":NaN}', "it cannot be written as JSON"),
        (b'{"rootfs":{},"a":' + b"[" * 90_000 + b"]" * 90_000 + b"}", "it is not JSON that can be read: it is nested"),
        (b'{"rootfs":{},"a":[' + b"{}," * (MAX_MODEL_VALUES // 2) + b"{}]}", "it is too large to be changed"),
    ],
    ids=lambda value: str(value[:40]),
)
def test_a_hostile_config_is_an_invalid_image(data: bytes, message: str) -> None:
    with pytest.raises(InvalidImage) as caught:
        ImageConfig.parse(data, "it")
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("depth", [100, 250, 300, 500, 900, 990, 1100])
def test_a_deep_config_is_kept_or_refused(depth: int) -> None:
    data = b'{"rootfs":{},"a":' + b"[" * depth + b"]" * depth + b"}"
    try:
        config = ImageConfig.parse(data, "it")
        assert config.to_bytes() == data
        config.author = "x"
        assert config.to_bytes() == data[:-1] + b',"author":"x"}'
    except InvalidImage:
        assert depth > 250


@pytest.mark.parametrize("value", ["A=b", [1], {"A": "b"}, [{}]])
def test_a_wrong_value_that_is_set_is_found_when_the_config_is_written(value: Any) -> None:
    config = ImageConfig.scratch()
    config.execution.env = value
    with pytest.raises(InvalidImage, match=r"the new config is not usable: config\.Env"):
        config.to_bytes()


def test_a_value_without_json_that_is_set_is_found_when_the_config_is_written() -> None:
    config = ImageConfig.scratch()
    config.author = object()  # type: ignore[assignment]
    with pytest.raises(InvalidImage, match="the new config"):
        config.to_bytes()


def test_text_that_is_not_utf_8_is_written_as_an_escape() -> None:
    data = b'{"rootfs":{},"author":"\\ud800"}'
    config = ImageConfig.parse(data)
    config.os = "linux"
    assert config.to_bytes() == b'{"rootfs":{},"author":"\\ud800","os":"linux"}'


def test_images_are_listed_without_pydantic() -> None:
    program = "import sys; from layerstore_core import Images, ConfigDocument; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


EXECUTION = {field.alias or name for name, field in ExecutionConfig.model_fields.items()}
#: Values that fit often, and others.
VALUES = (
    st.lists(st.text(max_size=5), max_size=3)
    | st.dictionaries(st.text(max_size=5), st.just({}) | st.text(max_size=3), max_size=3)
    | JSON
)
PART = st.dictionaries(st.sampled_from(sorted(EXECUTION)) | st.text(max_size=5), VALUES, max_size=5)
HOSTILE = st.fixed_dictionaries(
    {"rootfs": st.just({"diff_ids": [DIFF_ID]}) | JSON},
    optional={
        "config": PART | JSON,
        "container_config": PART | JSON,
        "history": st.lists(st.dictionaries(st.sampled_from(sorted(HistoryStep.model_fields)), JSON, max_size=3))
        | JSON,
        **{key: st.text(max_size=5) | JSON for key in KNOWN - {"rootfs", "config", "container_config", "history"}},
    },
)


def parsed(document: Any) -> ImageConfig | None:
    """Parse a config, which may be refused, and in no other way than as an invalid image."""
    data = json.dumps(document).encode()
    try:
        config = ImageConfig.parse(data)
    except InvalidImage:
        return None
    assert config.to_bytes() == data
    return config


@given(HOSTILE)
def test_any_config_is_read_and_changed_or_refused(document: Any) -> None:
    config = parsed(document)
    if config is None:
        return
    options = ConfigOptions(
        env={"A": "1", "B": None}, entrypoint="a", workdir="x", labels={"a": None}, expose=["1"], volumes=["/v-"],
        healthcheck="NONE", stop_signal="", created="0",
    )  # fmt: skip
    options.apply(config)
    add_step(config, HistoryStep(empty_layer=True))
    again = ImageConfig.parse(config.to_bytes())
    assert again.to_bytes() == config.to_bytes()
    assert "A=1" in (again.execution.env or ())
    assert set(json.loads(config.to_bytes())) >= set(document)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_any_three_configs_are_merged_or_refused(mine: Any, old: Any, new: Any) -> None:
    configs = [parsed(document) for document in (mine, old, new)]
    if None not in configs:
        found = rebase.merge(*configs)  # type: ignore[arg-type]
        assert ImageConfig.parse(found.to_bytes()).to_bytes() == found.to_bytes()


def test_a_number_of_thousands_of_digits_is_refused_in_our_words() -> None:
    with pytest.raises(InvalidImage, match="it has a number with thousands of digits"):
        ImageConfig.parse(b'{"rootfs":{},"a":' + b"9" * 5000 + b"}", "it")
