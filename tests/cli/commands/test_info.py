"""`layerstore info`: counts, problems, and the source of each setting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core._version import __version__
from layerstore_core.base.kernels import engine
from tests.cli.conftest import Run
from tests.registry.surroundings import Places, own_places


def test_info_of_a_root_without_a_store_creates_none(run: Run, root: Path) -> None:
    document = run("info", "--json").json
    assert (document["exists"], document["driver"], document["layers"]) == (False, "vfs", 0)
    assert document["configuration"]["root"] == {"value": str(root), "source": "argument"}
    assert f"Root:            {root}  (no store there yet" in run("info").text
    assert not root.exists()


@pytest.mark.usefixtures("used")
def test_info_of_an_empty_store(run: Run, root: Path) -> None:
    document = run("info", "--json").json
    assert document["version"] == __version__
    assert document["exists"] is True
    assert document["root"] == str(root)
    assert document["driver"] == "vfs"
    assert (document["layers"], document["pinned"], document["rw_layers"], document["size"]) == (0, 0, 0, 0)
    assert document["problems"] == []


def test_info_counts_layers_and_adds_their_sizes(run: Run, base: Path, upper: Path) -> None:
    chain = run("register", base).text.strip()
    run("register", upper, "--parent", chain)
    run("rw", "create", "work", "--parent", chain)
    document = run("info", "--json").json
    assert (document["layers"], document["pinned"], document["rw_layers"]) == (2, 2, 1)
    assert document["size"] == 20 + 5000 + 14 + 300
    assert "Layers:          2 (2 pinned), 5.2 KiB" in run("info").lines


def test_info_shows_the_source_of_each_setting(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "layerstore.toml"
    file.write_text("max_depth = 7\n")
    monkeypatch.setenv("LAYERSTORE_DURABILITY", "none")
    args = ("--root", str(root), "--driver", "vfs", "--config", str(file), "info")
    settings = run("--json", *args, store=False).json["configuration"]
    assert settings["max_depth"]["value"] == 7
    assert str(file) in settings["max_depth"]["source"]
    assert settings["durability"]["value"] == "none"
    assert "LAYERSTORE_DURABILITY" in settings["durability"]["source"]
    assert settings["root"] == {"value": str(root), "source": "argument"}
    assert settings["max_layer_size"]["source"] == "default"
    text = run(*args, store=False).text
    assert f"  max_depth = 7  [{settings['max_depth']['source']}]\n" in text


def test_a_layer_that_cannot_be_loaded_is_a_problem(run: Run, base: Path, root: Path) -> None:
    chain = run("register", base).text.strip()
    (root / "image/vfs/layerdb/sha256" / chain[7:] / "diff").write_text("")
    outcome = run("info", "--json")
    assert outcome.json["layers"] == 0
    assert [problem["path"].count(chain[7:]) for problem in outcome.json["problems"]] == [1]
    assert "Problems:        1" in run("info").text


@pytest.mark.usefixtures("used")
def test_a_driver_option_reaches_the_driver(run: Run) -> None:
    outcome = run("--driver-opt", "no_such_option=1", "info", code=1)
    assert "no_such_option" in outcome.stderr
    assert run("--json", "--driver-opt", "no_such_option=1", "info", code=1).error["type"] == "ConfigError"


def test_an_unknown_driver_is_an_error(run: Run, root: Path) -> None:
    outcome = run("--json", "--root", root, "--driver", "nosuch", "info", store=False, code=1)
    assert outcome.error["type"] == "DriverNotFound"


class TestRegistry:
    """What applies to a registry, in place of the store."""

    @pytest.fixture
    def places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
        return own_places(tmp_path / "places", monkeypatch)

    def test_in_json(self, run: Run, root: Path, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        places.write(
            "~/.config/layerstore/config.toml",
            '[registries."docker.io"]\nmirrors = ["mirror.example.com:5000/hub"]\n'
            '[registries."mirror.example.com:5000"]\nca = "/ca.pem"\n',
        )
        auth = places.write("~/.docker/config.json", '{"auths": {"docker.io": {"auth": "YWRhOnB3"}}}')
        conf = places.write("containers/registries.conf")
        monkeypatch.setenv("HTTPS_PROXY", "http://user:word@proxy.example.com:3128")
        monkeypatch.setenv("NO_PROXY", ".docker.io")
        document = run("info", "--json", "--registry", "docker.io/library/debian").json
        files = [str(conf), str(auth)]
        assert (document["registry"], document["repository"]) == ("docker.io", "library/debian")
        assert document["registry_files"] == files
        mirror, hub = document["endpoints"]
        assert mirror == {
            "url": "https://mirror.example.com:5000/v2/hub/library/debian",
            "mirror": True,
            "tags": True,
            "digests": True,
            "verify": True,
            "ca": ["/ca.pem"],
            "client_cert": None,
            "client_key": None,
            "proxy": "http://proxy.example.com:3128",
            "applied": ['[registries."docker.io"]', '[registries."mirror.example.com:5000"]'],
            "username": None,
            "credentials_from": None,
        }
        assert (hub["url"], hub["mirror"]) == ("https://registry-1.docker.io/v2/library/debian", False)
        assert (hub["username"], hub["credentials_from"], hub["proxy"]) == ("ada", str(auth), None)
        assert run("info", "--json").json["registry_files"] == files
        assert not root.exists()

    def test_as_text(self, run: Run, places: Places) -> None:
        conf = places.write(
            "containers/registries.conf",
            '[[registry]]\nprefix = "a.example.com/x"\nlocation = "b.example.com"\ninsecure = true\n'
            '[[registry.mirror]]\nlocation = "c.example.com"\npull-from-mirror = "digest-only"\n',
        )
        assert run("info", "--registry", "a.example.com/x/app").lines == [
            "Registry:   a.example.com",
            "Repository: x/app",
            "Asked in this order:",
            "  1. https://c.example.com/v2/app  (mirror, only for digests)",
            f"     from:        {conf} (prefix a.example.com/x)",
            "  2. https://b.example.com/v2/app  (mirror, certificate not verified)",
            f"     from:        {conf} (prefix a.example.com/x)",
            "  3. http://b.example.com/v2/app  (mirror, without TLS)",
            f"     from:        {conf} (prefix a.example.com/x)",
            "  4. https://a.example.com/v2/x/app  (registry, only for writing, certificate not verified)",
            f"     from:        {conf} (prefix a.example.com/x)",
            "  5. http://a.example.com/v2/x/app  (registry, only for writing, without TLS)",
            f"     from:        {conf} (prefix a.example.com/x)",
            "Files for registries:",
            f"  {conf}",
        ]

    def test_a_damaged_file_is_an_error_only_here(self, run: Run, places: Places) -> None:
        path = places.write("containers/registries.conf", "x = y")
        done = run("info", "--registry", "a.example.com", code=1)
        assert f"{path}: it is not TOML" in done.stderr
        assert f"  {path}" in run("info").lines

    @pytest.mark.parametrize("name", ["", "a/B", "https://a.example.com/app", "a.example.com/x:1", "a b/x"])
    def test_what_is_no_registry(self, run: Run, places: Places, name: str) -> None:
        assert "is not" in run("info", "--registry", name, code=2).stderr


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LAYERSTORE_NATIVE", "0")
    engine.cache_clear()
    yield
    engine.cache_clear()


@pytest.mark.usefixtures("without_kernels")
def test_info_says_why_there_are_no_kernels(run: Run) -> None:
    reason = "the environment variable LAYERSTORE_NATIVE is 0"
    assert run("info", "--json").json["engine"] == {"kernels": False, "reason": reason}
    assert f"Engine:          Python alone: {reason}" in run("info").lines


@pytest.mark.skipif(engine().kernels is None, reason="the kernels are not built, or not used")
def test_info_says_that_the_kernels_are_used(run: Run) -> None:
    reason = "layerstore-native is installed"
    assert run("info", "--json").json["engine"] == {"kernels": True, "reason": reason}
    assert f"Engine:          kernels in C: {reason}" in run("info").lines
