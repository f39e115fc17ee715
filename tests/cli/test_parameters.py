"""The types of arguments: chain IDs, images, names, `KEY=VALUE`; and their completion."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from layerstore_core.cli.parameters import CHAIN, KEY_VALUE, MOUNT_NAME
from tests.cli.conftest import Run, tar_of
from tests.images.archives import ImageSpec, docker_archive

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("typed", [HEX, f"sha256:{HEX}", HEX[:4], f"sha256:{HEX[:5]}"])
def test_a_chain_id_may_be_short_and_without_the_algorithm(typed: str) -> None:
    assert CHAIN.convert(typed, None, None) == typed.removeprefix("sha256:")


@pytest.mark.parametrize(
    "typed", ["", "sha256:abc", f"sha256:{HEX}0", HEX.upper(), "sha512:" + HEX, "sha256:", "Xyz1", "0123\n", "٠١٢٣"]
)
def test_a_word_that_cannot_be_a_chain_id_is_wrong_usage(typed: str) -> None:
    with pytest.raises(click.UsageError, match="is not a chain ID"):
        CHAIN.convert(typed, None, None)


@pytest.mark.parametrize("name", ["a", "x" * 255, "ü" * 127, "...", "-", "a b"])
def test_a_writable_layer_may_have_this_name(name: str) -> None:
    assert MOUNT_NAME.convert(name, None, None) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b", "x" * 256, "ü" * 128])
def test_a_word_that_cannot_name_a_writable_layer_is_wrong_usage(name: str) -> None:
    with pytest.raises(click.UsageError, match="cannot name a writable layer"):
        MOUNT_NAME.convert(name, None, None)


@pytest.mark.parametrize(("typed", "pair"), [("a=b", ("a", "b")), ("a=", ("a", "")), ("a=b=c", ("a", "b=c"))])
def test_key_and_value_are_split_at_the_first_equals_sign(typed: str, pair: tuple[str, str]) -> None:
    assert KEY_VALUE.convert(typed, None, None) == pair


@pytest.mark.parametrize("typed", ["", "a", "=b"])
def test_a_pair_without_key_or_equals_sign_is_wrong_usage(typed: str) -> None:
    with pytest.raises(click.UsageError, match="KEY=VALUE"):
        KEY_VALUE.convert(typed, None, None)


@pytest.mark.parametrize(
    "args",
    [
        ("show", "Nonsense"),
        ("export", "sha256:12"),
        ("rm", "SHA256:" + HEX),
        ("register", "x.tar", "--parent", "é"),
        ("rw", "create", "a/b"),
        ("rw", "mount", ".."),
        ("rw", "commit", ""),
        ("rw", "rm", "x" * 256),
    ],
)
def test_bad_words_exit_with_2_before_the_store_is_opened(run: Run, root: Path, args: tuple[str, ...]) -> None:
    outcome = run(*args, code=2)
    assert outcome.stdout == b""
    assert "Error: Invalid value" in outcome.stderr
    assert not root.exists()


@pytest.mark.usefixtures("used")
def test_an_unknown_chain_id_exits_with_1(run: Run) -> None:
    outcome = run("show", HEX, code=1)
    assert f"no layer sha256:{HEX} in" in outcome.stderr
    assert outcome.stdout == b""


def test_a_layer_is_found_by_its_first_digits_without_reading_other_records(
    run: Run, base: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = run("register", base).text.strip()
    other = run("register", "-", stdin=tar_of({"other": b""})).text.strip()
    (root / "image/vfs/layerdb/sha256" / other[7:] / "diff").write_text("")
    # Loading all layers would log a warning about the damaged one.
    assert run("export", chain[7:19]).stderr == ""
    assert "diff" in run("export", other[7:19], code=1).stderr


def test_an_ambiguous_prefix_lists_the_candidates(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Digests that share four digits take long to find: accept one digit in this test.
    from layerstore_core.cli import parameters

    monkeypatch.setattr(parameters, "_PREFIX", re.compile("([0-9a-f]{1,64})"))
    chains = [run("register", "-", stdin=tar_of({f"f{i}": b""})).text.strip() for i in range(17)]
    by_digit: dict[str, list[str]] = {}
    for chain in chains:
        by_digit.setdefault(chain[len("sha256:")], []).append(chain)
    digit, candidates = next((d, c) for d, c in by_digit.items() if len(c) > 1)
    outcome = run("show", digit, code=2)
    assert outcome.stdout == b""
    assert all(chain in outcome.stderr for chain in candidates[:10])
    assert run("--json", "show", digit, code=2).error["type"] == "UsageError"


@pytest.fixture
def app(run: Run) -> ImageSpec:
    image = ImageSpec((tar_of({"below": b"1"}), tar_of({"top": b"2"})), ("app:1", "example.com/app:2"))
    run("load", "-", stdin=docker_archive(image, ImageSpec((), ("empty:1",))))
    return image


def test_an_image_means_its_topmost_layer(run: Run, app: ImageSpec) -> None:
    top = next(image["chain_id"] for image in run("images", "--json").json["images"] if "app:1" in image["names"])
    words = ["app:1", "docker.io/library/app:1", "example.com/app:2", app.image_id, app.image_id[7:19], top, top[7:19]]
    for number, word in enumerate(words):
        assert run("show", word, "--json").json["chain_id"] == top
        assert run("export", word).stdout == app.layers[1]
        run("rw", "create", f"work{number}", "--parent", word)
    assert {layer["parent"] for layer in run("rw", "ls", "--json").json["rw_layers"]} == {top}
    upper = run("register", "-", "--parent", "app:1", stdin=tar_of({"more": b"3"})).text.strip()
    assert run("show", upper, "--json").json["parent"] == top


@pytest.mark.usefixtures("app")
def test_an_image_without_layers_may_be_a_parent_but_is_no_layer(run: Run) -> None:
    assert "has no layers" in run("show", "empty:1", code=1).stderr
    run("rw", "create", "work", "--parent", "empty:1")
    assert run("rw", "ls", "--json").json["rw_layers"][0]["parent"] is None
    assert "no image" in run("show", "nosuch:1", code=1).stderr


@pytest.mark.usefixtures("app")
def test_a_word_that_may_be_a_layer_or_an_image_is_wrong_usage_and_both_are_listed(run: Run) -> None:
    below = next(layer["chain_id"] for layer in run("ls", "--json").json["layers"] if layer["parent"] is None)
    run("tag", "app:1", below[7:12])
    refused = run("show", below[7:12], code=2).stderr
    assert below in refused and f"image {below[7:12]}:latest" in refused
    assert run("show", below[7:13], "--json").json["chain_id"] == below
    assert run("show", f"{below[7:12]}:latest", "--json").json["chain_id"] != below


def test_completion_lists_chain_ids_and_names(
    run: Run, base: object, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = run("register", str(base)).text.strip()
    run("rw", "create", "work")
    monkeypatch.setenv("_LAYERSTORE_COMPLETE", "bash_complete")

    def complete(*words: str) -> list[str]:
        line = ["layerstore", "--root", str(root), "--driver", "vfs", *words]
        monkeypatch.setenv("COMP_WORDS", " ".join(line))
        monkeypatch.setenv("COMP_CWORD", str(len(line) - 1))
        return run(store=False).lines

    assert complete("show", chain[7:12]) == [f"plain,{chain[7:]}"]
    assert complete("rw", "mount", "w") == ["plain,work"]
    assert "plain,register" in complete("reg")


def test_completion_without_a_store_creates_none_and_prints_nothing(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_LAYERSTORE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"layerstore --root {root} show ab")
    monkeypatch.setenv("COMP_CWORD", "4")
    outcome = run(store=False)
    assert (outcome.stdout.strip(), outcome.stderr) == (b"", "")
    assert not root.exists()


@pytest.mark.parametrize(
    "args",
    [
        ("--root", "", "register", "-"),
        ("--config", "", "ls"),
        ("register", ""),
        ("load", ""),
        ("check", "--repair", "--from", ""),
        ("export", "0123", "-o", ""),
        ("save", "app:1", "-o", ""),
        ("save", "app:1", "-o", "", "--format", "oci"),
    ],
    ids=" ".join,
)
def test_an_empty_file_name_is_wrong_usage(run: Run, args: tuple[str, ...]) -> None:
    assert "the name is empty; name a file or a directory" in run(*args, code=2).stderr
