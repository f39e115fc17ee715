"""Settings: where they come from, which go first, and what is said of bad ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from layerstore_core import ConfigError, IDRange, StoreConfig, load_config
from layerstore_core.config import model, pydantic_sources, sources, validation
from layerstore_core.config.settings import SETTINGS, Settings
from layerstore_core.config.validation import validated


@pytest.fixture(autouse=True)
def nothing_set(tmp_path, monkeypatch):
    """No variables and no files, but what a test makes."""
    for name in list(os.environ):
        if name.startswith(("LAYERSTORE_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sources, "SYSTEM_FILE", tmp_path / "etc" / "config.toml")


@pytest.fixture
def write(tmp_path):
    """Writes a configuration file: `system`, `user`, or a name."""

    def write_(which, text):
        places = {"system": tmp_path / "etc" / "config.toml", "user": tmp_path / "home/.config/layerstore/config.toml"}
        path = places.get(which, tmp_path / which)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_


def test_defaults(tmp_path):
    found = load_config()
    assert found.root == (
        Path("/var/lib/layerstore") if os.geteuid() == 0 else tmp_path / "home/.local/share/layerstore"
    )
    assert (found.driver, found.driver_priority, found.drivers) == (None, (), {})
    assert (found.durability, found.max_depth, found.max_layer_size) == ("full", 125, None)
    assert found.id_mapping.root_pair() == (0, 0)
    assert set(found.sources.values()) == {"default"}


def test_the_root_of_an_ordinary_user(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert load_config().root == tmp_path / "home/.local/share/layerstore"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert load_config().root == tmp_path / "data" / "layerstore"


def test_a_user_whom_nobody_knows(tmp_path, monkeypatch):
    """As in a container that is run as any number, without a home directory."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert load_config(root=tmp_path).root == tmp_path
    with pytest.raises(ConfigError, match=r"user 12345 has no home directory.*name one, or set HOME"):
        load_config()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert load_config().root == tmp_path / "data" / "layerstore"


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_file_in_a_home_directory_that_there_is_not(monkeypatch, how):
    named = Path("~no such user/x")
    if how == "environment":
        monkeypatch.setenv("LAYERSTORE_CONFIG", str(named))
    with pytest.raises(
        ConfigError,
        match="~no such user/x: the configuration file cannot be read: no home directory found for ~no such user",
    ):
        load_config(named if how == "argument" else None)


def test_each_source_goes_before_the_next(write, monkeypatch):
    """From the weakest on, each is put before those there are."""
    system = write("system", "max_depth = 2\ndurability = 'none'\n")
    found = load_config()
    assert (found.max_depth, found.sources["max_depth"]) == (2, f"file {system}")

    user = write("user", "max_depth = 3\n")
    found = load_config()
    assert (found.max_depth, found.sources["max_depth"]) == (3, f"file {user}")
    assert (found.durability, found.sources["durability"]) == ("none", f"file {system}")

    monkeypatch.setenv("LAYERSTORE_MAX_DEPTH", "4")
    found = load_config()
    assert (found.max_depth, found.sources["max_depth"]) == (4, "environment LAYERSTORE_MAX_DEPTH")

    found = load_config(max_depth=5)
    assert (found.max_depth, found.sources["max_depth"]) == (5, "argument")
    assert found.sources["root"] == "default"


def test_a_named_file_is_read_instead_of_the_others(write, monkeypatch):
    write("user", "max_depth = 3\ndriver = 'x'\n")
    named, other = write("named.toml", "max_depth = 4\n"), write("other.toml", "max_depth = 5\n")
    monkeypatch.setenv("LAYERSTORE_CONFIG", str(named))
    assert (load_config().max_depth, load_config().driver) == (4, None)
    assert load_config(other).max_depth == 5


def test_the_user_s_file_by_xdg(tmp_path, write, monkeypatch):
    write("xdg/layerstore/config.toml", "max_depth = 9\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert load_config().max_depth == 9


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_named_file_has_to_be_there(tmp_path, monkeypatch, how):
    missing = tmp_path / "missing.toml"
    if how == "environment":
        monkeypatch.setenv("LAYERSTORE_CONFIG", str(missing))
    with pytest.raises(ConfigError, match=rf"{missing}.*No such file"):
        load_config(missing if how == "argument" else None)


def test_a_file_that_is_a_directory(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


@pytest.mark.parametrize("text", ["driver = ", "[drivers", "a = 1\na = 2", "\x00", "= 3"])
def test_a_file_that_is_no_toml(write, text):
    path = write("user", text)
    with pytest.raises(ConfigError, match=f"{path}: not TOML"):
        load_config()


def test_a_file_that_is_no_text(write):
    path = write("user", "")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"colour": 1}, ["unknown setting 'colour'", "from argument"]),
        ({"max_dept": 1}, ["unknown setting 'max_dept' (from argument); did you mean max_depth?"]),
        ({"max_depth": 0}, ["'max_depth'", "greater than or equal to 1", "0"]),
        ({"max_depth": "many"}, ["'max_depth'", "'many'"]),
        ({"durability": "some"}, ["'durability'", "'full' or 'none'", "'some'"]),
        ({"max_layer_size": "10 apples"}, ["'max_layer_size'", "is not a size"]),
        ({"max_layer_size": -1}, ["'max_layer_size'"]),
        ({"uid_map": ["0:1"]}, ["'uid_map'", "container:host:length"]),
        ({"gid_map": ["0:1:0"]}, ["'gid_map'"]),
        ({"uid_map": ["0:-1:5"]}, ["'uid_map'"]),
        ({"drivers": {"vfs": 3}}, ["'drivers.vfs'", "dictionary"]),
        ({"driver_priority": "vfs"}, ["'driver_priority'"]),
        ({"max_depth": 0, "colour": 1}, ["'max_depth'", "'colour'"]),
        ({"root": ""}, ["'root'", "is empty", "(from argument)"]),
        (
            {"root": "~no such user/x"},
            ["'root'", "no home directory found for ~no such user", "not '~no such user/x' (from argument"],
        ),
    ],
)
def test_a_bad_setting_is_named(given, words):
    with pytest.raises(ConfigError) as caught:
        load_config(**given)
    for word in words:
        assert word in str(caught.value)


def test_a_bad_setting_is_told_with_its_source(write, monkeypatch):
    path = write("user", "colour = 1\n")
    with pytest.raises(ConfigError, match=rf"unknown setting 'colour' \(from file {path}\)"):
        load_config()
    write("user", "")
    monkeypatch.setenv("LAYERSTORE_MAX_DEPTH", "many")
    with pytest.raises(ConfigError, match=r"'max_depth'.*'many' \(from environment LAYERSTORE_MAX_DEPTH\)"):
        load_config()


def test_lists_and_tables_in_the_environment_are_json(monkeypatch):
    monkeypatch.setenv("LAYERSTORE_DRIVER_PRIORITY", '["a", "b"]')
    monkeypatch.setenv("LAYERSTORE_DRIVERS", '{"vfs": {"x": 1}}')
    monkeypatch.setenv("LAYERSTORE_UID_MAP", '["0:1000:10"]')
    found = load_config()
    assert found.driver_priority == ("a", "b")
    assert found.drivers == {"vfs": {"x": 1}}
    assert found.id_mapping.uids == (IDRange(0, 1000, 10),)


@pytest.mark.parametrize("name", ["DRIVER_PRIORITY", "DRIVERS", "UID_MAP"])
def test_what_is_no_json_is_told_by_the_variable(monkeypatch, name):
    monkeypatch.setenv(f"LAYERSTORE_{name}", "a,b")
    with pytest.raises(ConfigError, match=f"LAYERSTORE_{name}: not JSON"):
        load_config()


@pytest.mark.parametrize("name", ["ROOT", "DRIVER", "MAX_DEPTH", "CONFIG", "DRIVERS", "COLOUR"])
def test_an_empty_variable_is_not_set(monkeypatch, name):
    unset = load_config()
    monkeypatch.setenv(f"LAYERSTORE_{name}", "")
    assert load_config() == unset


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("LAYERSTORE_ROOTS", "LAYERSTORE_ROOT"),
        ("LAYERSTORE_DIRVER", "LAYERSTORE_DRIVER"),
        ("LAYERSTORE_DURABLITY", "LAYERSTORE_DURABILITY"),
        ("LAYERSTORE_MAX_LAYERSIZE", "LAYERSTORE_MAX_LAYER_SIZE"),
        ("LAYERSTORE_CONFG", "LAYERSTORE_CONFIG"),
        ("LAYERSTORE_Config", "LAYERSTORE_CONFIG"),
        ("layerstore_max_dept", "LAYERSTORE_MAX_DEPTH"),
        ("LAYERSTORE_DRIVER__X", "LAYERSTORE_DRIVER"),
        ("LAYERSTORE_UID_MAP__0", "LAYERSTORE_UID_MAP"),
        ("LAYERSTORE_ROOT_", "LAYERSTORE_ROOT"),
        ("LAYERSTORE_COLOUR", ""),
        ("LAYERSTORE_", ""),
        ("LAYERSTORE_VFS", ""),
        ("LAYERSTORE_VFSX_Y", ""),
    ],
)
def test_a_variable_that_is_no_setting_is_an_error(monkeypatch, name, near):
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=rf"unknown setting in the environment: {name}") as caught:
        load_config()
    assert f"did you mean {near}" in str(caught.value) if near else "did you mean" not in str(caught.value)


def test_all_variables_that_are_no_settings_are_named(monkeypatch):
    monkeypatch.setenv("LAYERSTORE_ROOTS", "/x")
    monkeypatch.setenv("LAYERSTORE_COLOUR", "red")
    with pytest.raises(ConfigError, match=r"LAYERSTORE_COLOUR; .*LAYERSTORE_ROOTS; did you mean"):
        load_config()


@pytest.mark.parametrize(
    "name",
    [
        "NATIVE",
        "TEST_STRICT",
        "SHARED",
        "RELIABILITY",
        "RELIABILITY_SEED",
        "FIGURES",
        "MUTANTS",
        "VFS_X",
        "OVERLAY2_X_Y",
    ],
)
def test_variables_of_kernels_of_tests_and_of_installed_packages_are_not_settings(monkeypatch, name):
    monkeypatch.setenv(f"LAYERSTORE_{name}", "1")
    assert set(load_config().sources.values()) == {"default"}


def test_the_tests_own_variables_are_known():
    """A new one has to be added to `config.sources`, or the commands that the tests run refuse it."""
    top = Path(__file__).parents[2]
    read = subprocess.run(
        [
            "git",
            "grep",
            "-hE",
            r"(environ\b[.[]|getenv).*[^_]LAYERSTORE_[A-Z_]+",
            "--",
            "conftest.py",
            "tests",
            "drivers/*/tests",
        ],
        cwd=top,
        capture_output=True,
        text=True,
        check=True,
    )
    text = read.stdout + (top / "Makefile").read_text() + (top / ".ci" / "run").read_text()
    names = set(re.findall(r"\bLAYERSTORE_([A-Z_]+)", text)) - {"NATIVE"}  # users have it, too
    assert {"TEST_STRICT", "FIGURES"} <= names
    assert [name for name in names if name.lower() not in SETTINGS and not sources._is_reserved(name)] == []


@pytest.mark.parametrize(
    ("variables", "plain"),
    [
        ({}, True),
        ({"ROOT": "/r", "DRIVER": "vfs", "DURABILITY": "none", "MAX_DEPTH": "7", "MAX_LAYER_SIZE": "1G"}, True),
        ({"ROOT": "", "DRIVER": " vfs ", "CONFIG": "x", "TEST_STRICT": "x", "DURABILITY": "null"}, True),
        ({"root": "/r"}, False),
        ({"DRIVERS__vfs__x": "1"}, False),
        ({"UID_MAP": '["0:1000:10"]', "ROOT": "/r"}, False),
    ],
)
def test_plain_variables_are_read_as_pydantic_settings_reads_them(monkeypatch, variables, plain):
    for name, value in variables.items():
        monkeypatch.setenv("LAYERSTORE_" + name, value)
    found = sources.plain_environment()
    assert (found is not None) == plain
    if plain:
        assert found == pydantic_sources.from_environment()


def test_pydantic_settings_is_loaded_only_where_it_is_needed(tmp_path):
    program = "import sys, layerstore_core; layerstore_core.load_config(); print('pydantic_settings' in sys.modules)"
    for name, loaded in (("DURABILITY", "False"), ("UID_MAP", "True")):
        environment = {**os.environ, f"LAYERSTORE_{name}": "none" if name == "DURABILITY" else '["0:1000:10"]'}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == loaded, name


def test_options_of_drivers_are_put_together_key_by_key(write, monkeypatch):
    write("system", '[drivers.a]\none = "system"\ntwo = "system"\n[drivers.b]\nfour = 4\n')
    write("user", '[drivers.a]\ntwo = "user"\nthree = "user"\n')
    monkeypatch.setenv("LAYERSTORE_DRIVERS", '{"a": {"three": "environment"}}')
    monkeypatch.setenv("LAYERSTORE_DRIVERS__A__FOUR", "nested")
    found = load_config(drivers={"a": {"five": "argument"}})
    assert found.drivers == {
        "a": {"one": "system", "two": "user", "three": "environment", "four": "nested", "five": "argument"},
        "b": {"four": 4},
    }
    for source in ("argument", "LAYERSTORE_DRIVERS", "LAYERSTORE_DRIVERS__A__FOUR", "etc/config.toml", "home"):
        assert source in found.sources["drivers"]


def test_options_may_stand_under_an_alias():
    found = StoreConfig(drivers={"overlay": {"a": 1, "b": 1}, "overlay2": {"b": 2}})
    assert found.options_of("overlay2", "overlay") == {"a": 1, "b": 2}
    assert found.options_of("vfs") == {}


def test_overrides_go_before_and_keep_the_rest(write):
    path = write("user", "max_depth = 3\n[drivers.a]\nx = 1\ny = 1\n")
    found = load_config(driver="a").with_overrides(max_depth=7, drivers={"a": {"y": 2}})
    assert (found.max_depth, found.driver) == (7, "a")
    assert found.drivers == {"a": {"x": 1, "y": 2}}
    assert found.sources["max_depth"] == found.sources["driver"] == "argument"
    assert str(path) in found.sources["drivers"]
    with pytest.raises(ConfigError, match="colour"):
        found.with_overrides(colour=1)


@pytest.mark.parametrize(("text", "size"), [("10G", 10 << 30), ("1.5k", 1536), (5, 5), (None, None)])
def test_sizes(text, size):
    assert load_config(max_layer_size=text).max_layer_size == size


def test_the_root_is_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_config(root="below/../store").root == tmp_path / "store"
    assert load_config(root="~/store").root == tmp_path / "home" / "store"


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError, match="cannot assign"):
        load_config().driver = "x"


def test_keywords_count_as_arguments():
    found = StoreConfig(driver="vfs")
    assert found.sources["driver"] == "argument"
    assert found.sources["max_depth"] == "default"


def test_the_names_of_all_settings():
    """Type checkers need the keywords written out; all else is derived from the fields."""
    assert tuple(Settings.__annotations__) == SETTINGS


def test_the_table_in_the_documents_has_all_settings_with_their_defaults():
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    documented = {name.strip(" `"): default for names, default, _ in rows for name in names.split(",")}
    assert tuple(documented) == SETTINGS
    for name, value in StoreConfig().document().items():
        if documented[name] == "none":
            assert value in (None, [], {}), name
        elif name not in ("root", "driver", "driver_priority"):  # whose defaults are told in words
            told = json.loads(documented[name].strip("`"))
            assert StoreConfig(**{name: told}).document()[name] == value, name


SNIPPET = """
from pathlib import Path
from layerstore_core import LayerStore, load_config
LayerStore.open(root="/srv", driver="vfs", create=False)
LayerStore.open(load_config(max_depth=3), read_only=True, drivers={"vfs": {}})
LayerStore.open(root=Path("/srv"), max_layer_size="1G", durability="none", uid_map=["0:1:1"])
"""


#: Mistakes, and what the type checker says of each.
MISTAKES = {
    'LayerStore.open(roots="/srv")': 'Unexpected keyword argument "roots"',
    "load_config(max_dept=3)": 'Unexpected keyword argument "max_dept"',
    'load_config().with_overrides(dirver="vfs")': 'Unexpected keyword argument "dirver"',
    'LayerStore.open(max_depth="many")': '"max_depth"',
    'LayerStore.open(durability="some")': '"durability"',
}


def test_a_type_checker_knows_the_settings(tmp_path):
    """As a user would run it, on code of his own."""
    program = tmp_path / "program.py"
    program.write_text(SNIPPET + "".join(f"{call}  # a mistake\n" for call in MISTAKES))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "cache", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(errors) == len(MISTAKES), done.stdout + done.stderr
    for line, (error, (call, said)) in enumerate(zip(errors, MISTAKES.items(), strict=True), SNIPPET.count("\n") + 1):
        assert f"program.py:{line}: error" in error and said in error, f"{call}: {error}"


@pytest.mark.parametrize(
    ("variables", "given", "plain"),
    [
        ({}, {}, True),
        ({}, {"root": "below/../store"}, True),
        ({}, {"root": Path("//x/./y/"), "driver": "vfs"}, True),
        ({}, {"driver": None, "durability": "none"}, True),
        ({"ROOT": "/r//s/.", "DRIVER": " vfs ", "DURABILITY": "none"}, {}, True),
        ({"ROOT": "/r", "DRIVER": "vfs"}, {"root": "/other"}, True),
        ({"ROOT": "", "CONFIG": "", "DRIVERS": ""}, {}, True),
        ({"ROOT": "~/store"}, {}, False),
        ({"root": "/r"}, {}, True),
        ({"MAX_DEPTH": "7"}, {}, False),
        ({}, {"root": "~/store"}, False),
        ({}, {"max_depth": 125}, False),
        ({}, {"drivers": {}}, False),
        ({}, {"driver_options": {"a": "b"}}, False),
    ],
)
def test_plain_settings_are_not_validated_and_are_what_validation_would_make(monkeypatch, variables, given, plain):
    for name, value in variables.items():
        monkeypatch.setenv("LAYERSTORE_" + name, value)
    quick = load_config(**given)
    validations = []

    def counted(values, origins):
        validations.append(values)
        return validated(values, origins)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "validated", counted)
        load_config(**given)
        assert (not validations) == plain
        patch.setattr(model, "_plain", lambda values: None)
        whole = load_config(**given)
    assert quick == whole
    for name in SETTINGS:
        assert type(getattr(quick, name)) is type(getattr(whole, name)), name
    assert quick.sources == whole.sources
    assert quick.document() == whole.document()


@pytest.mark.parametrize(
    "given", [{"durability": "some"}, {"driver": 3}, {"root": 3}, {"colour": 1}, {"durability": ["full"]}]
)
@pytest.mark.parametrize("make", [load_config, StoreConfig], ids=["loaded", "made"])
def test_settings_that_cannot_be_used_are_refused(make, given):
    with pytest.raises(ConfigError):
        make(**given)


def test_settings_are_frozen_and_compared_by_value():
    found = StoreConfig(root="/r", max_depth=7)
    assert found == StoreConfig(root=Path("/r"), max_depth=7) != StoreConfig(root="/r")
    assert "max_depth=7" in repr(found)
    with pytest.raises(AttributeError):
        found.driver = "x"
    with pytest.raises(AttributeError):
        StoreConfig(root="/r").driver = "x"
