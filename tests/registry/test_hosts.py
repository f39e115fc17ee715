"""Where the requests for a repository go, and which files and settings decide it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from layerstore_core import ConfigError
from layerstore_core.config.registries import HostSettings
from layerstore_core.registry.hosts import Endpoint, endpoints_of, files_in_force, is_loopback
from tests.registry.surroundings import Places, own_places

HOST = "registry.example.com"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    return own_places(tmp_path, monkeypatch)


def urls(host: str, repository: str = "", settings: Mapping[str, HostSettings] | None = None) -> list[str]:
    """Return where a repository is asked for."""
    found = endpoints_of(host, settings or {}, repository)
    return [f"{one.url}/{one.repository(repository)}".rstrip("/") for one in found]


def only(host: str, settings: Mapping[str, HostSettings] | None = None) -> Endpoint:
    (found,) = endpoints_of(host, settings or {})
    return found


@pytest.mark.parametrize(
    ("host", "url", "key"),
    [
        ("docker.io", "https://registry-1.docker.io/v2", "docker.io"),
        ("index.docker.io", "https://registry-1.docker.io/v2", "docker.io"),
        ("registry.example.com:5000", "https://registry.example.com:5000/v2", "registry.example.com:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2", "127.0.0.1:5000"),
    ],
)
def test_without_any_file_the_registry_itself_is_asked(host: str, url: str, key: str) -> None:
    found = only(host)
    assert (found.url, found.mirror, found.verify, found.credentials_key) == (url, False, True, key)
    assert found.applied == ("default",)
    assert found.repository("a/b") == "a/b"


@pytest.mark.parametrize("host", ["", "a b", "https://registry.example.com", "registry.example.com/x", "../etc", "a\n"])
def test_what_is_no_registry(host: str) -> None:
    with pytest.raises(ConfigError, match="not the address of a registry; give HOST or HOST:PORT"):
        endpoints_of(host, {})


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.1.2.3", True),
        ("[::1]:5000", True),
        ("[::1]", True),
        ("[2001:db8::1]:5000", False),
        ("localhost.example.com", False),
        ("10.0.0.1:5000", False),
        ("registry.example.com", False),
    ],
)
def test_loopback(host: str, is_it: bool) -> None:
    assert is_loopback(host) == is_it


class TestOwnTable:
    def test_mirrors_come_first_and_are_told_the_registry(self) -> None:
        settings = {
            "docker.io": HostSettings(mirrors=("mirror.example.com:5000", "http://cache.example.com/hub/")),
            "mirror.example.com:5000": HostSettings(ca=Path("/ca.pem")),
        }
        assert urls("docker.io", "library/debian", settings) == [
            "https://mirror.example.com:5000/v2/library/debian",
            "http://cache.example.com/v2/hub/library/debian",
            "https://registry-1.docker.io/v2/library/debian",
        ]
        first, second, last = endpoints_of("docker.io", settings)
        assert (first.mirror, first.query, first.ca) == (True, {"ns": "docker.io"}, (Path("/ca.pem"),))
        assert first.credentials_key == "mirror.example.com:5000"
        assert first.applied == ('[registries."docker.io"]', '[registries."mirror.example.com:5000"]')
        assert (second.mirror, second.ca) == (True, ())
        assert (last.mirror, last.query, last.credentials_key) == (False, {}, "docker.io")

    @pytest.mark.parametrize("name", ["docker.io", "index.docker.io", "registry-1.docker.io"])
    def test_docker_hub_by_each_of_its_names(self, name: str) -> None:
        settings = {name: HostSettings(mirrors=("mirror.example.com",))}
        for asked in ("docker.io", "index.docker.io", "registry-1.docker.io"):
            assert urls(asked, "", settings) == ["https://mirror.example.com/v2", "https://registry-1.docker.io/v2"]

    def test_plain_http(self) -> None:
        settings = {HOST: HostSettings(plain_http=True)}
        assert urls(HOST, "", settings) == [f"http://{HOST}/v2"]
        assert urls("other.example.com", "", settings) == ["https://other.example.com/v2"]

    def test_this_machine_speaks_tls_where_it_is_said_or_has_certificates(self, places: Places) -> None:
        host = "localhost:5000"
        assert urls(host) == ["http://localhost:5000/v2"]
        assert urls(host, "", {host: HostSettings(mirrors=("localhost:5001",))})[-1] == "http://localhost:5000/v2"
        assert urls(host, "", {host: HostSettings(plain_http=False)}) == ["https://localhost:5000/v2"]
        assert urls(host, "", {host: HostSettings(ca=Path("/ca.pem"))}) == ["https://localhost:5000/v2"]
        places.write(f"containers/certs.d/{host}/ca.crt")
        assert urls(host) == ["https://localhost:5000/v2"]

    def test_insecure_is_tls_without_a_check_and_then_plain_http(self) -> None:
        tls, plain = endpoints_of(HOST, {HOST: HostSettings(insecure=True)})
        assert (tls.url, tls.verify, tls.plain_after_tls) == (f"https://{HOST}/v2", False, False)
        assert (plain.url, plain.plain_after_tls, plain.mirror) == (f"http://{HOST}/v2", True, False)

    def test_a_client_certificate(self) -> None:
        found = only(HOST, {HOST: HostSettings(client_cert=Path("/c.pem"), client_key=Path("/k.pem"))})
        assert (found.client_cert, found.client_key, found.ca) == (Path("/c.pem"), Path("/k.pem"), ())

    def test_without_settings_those_of_the_configuration_files_count(self, places: Places) -> None:
        places.write("~/.config/layerstore/config.toml", f'[registries."{HOST}"]\nmirrors = ["mirror.example.com"]\n')
        assert [one.host for one in endpoints_of(HOST)] == ["mirror.example.com", HOST]


CONF = '[[registry]]\nlocation = "{0}"\n[[registry.mirror]]\nlocation = "{1}"\n'


def test_the_first_that_names_the_registry_decides(places: Places) -> None:
    """From the weakest on, each is put before those there are."""
    places.write("docker/daemon.json", '{"registry-mirrors": ["https://docker.example.com"]}')
    assert urls("docker.io")[0] == "https://docker.example.com/v2"
    places.write("containerd/certs.d/docker.io/hosts.toml", '[host."https://containerd.example.com"]')
    assert urls("docker.io")[0] == "https://containerd.example.com/v2"
    places.write("containers/registries.conf", CONF.format("docker.io", "podman.example.com"))
    assert urls("docker.io")[0] == "https://podman.example.com/v2"
    own = {"docker.io": HostSettings(mirrors=("own.example.com",))}
    assert urls("docker.io", "", own) == ["https://own.example.com/v2", "https://registry-1.docker.io/v2"]
    assert urls("docker.io", "", {"docker.io": HostSettings()}) == ["https://registry-1.docker.io/v2"]


def test_the_files_in_force(places: Places) -> None:
    assert files_in_force() == []
    expected = [
        places.write("containers/registries.conf"),
        places.write("containers/registries.conf.d/1.conf"),
        places.write("containerd/certs.d/x/hosts.toml").parents[1],
        places.write("docker/daemon.json", "not read"),
        places.write("containers/certs.d/x/y.crt").parents[1],
    ]
    assert files_in_force() == expected


#: The beginning of a mirror.
BY_DIGEST = f"[[registry]]\nlocation = '{HOST}'\nmirror-by-digest-only = true\n[[registry.mirror]]\n"


class TestRegistriesConf:
    """What `test_registries_conf` does not compare with skopeo."""

    def test_the_user_s_file_counts_instead_of_the_system_s(self, places: Places) -> None:
        places.write("containers/registries.conf", CONF.format(HOST, "system.example.com"))
        places.write("containers/registries.conf.d/1.conf", CONF.format("b.example.com", "drop.example.com"))
        assert urls(HOST)[0] == "https://system.example.com/v2"
        assert urls("b.example.com")[0] == "https://drop.example.com/v2"
        places.write("~/.config/containers/registries.conf", CONF.format(HOST, "user.example.com"))
        assert urls(HOST)[0] == "https://user.example.com/v2"
        assert urls("b.example.com") == ["https://b.example.com/v2"]
        places.write("~/.config/containers/registries.conf.d/1.conf", CONF.format(HOST, "drop.example.com"))
        assert urls(HOST)[0] == "https://drop.example.com/v2"

    def test_a_file_of_the_environment(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        places.write("~/.config/containers/registries.conf", CONF.format(HOST, "user.example.com"))
        path = places.write("named.conf", CONF.format(HOST, "named.example.com"))
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
        assert urls(HOST)[0] == "https://named.example.com/v2"
        path.unlink()
        with pytest.raises(ConfigError, match=f"{path}: there is no such file, which CONTAINERS_REGISTRIES_CONF names"):
            urls(HOST)

    def test_a_blocked_registry(self, places: Places) -> None:
        path = places.write("containers/registries.conf", f'[[registry]]\nlocation = "{HOST}/bad"\nblocked = true\n')
        with pytest.raises(ConfigError, match=rf"{HOST}/bad/app is blocked by {path}.*remove 'blocked' there"):
            endpoints_of(HOST, {}, "bad/app")
        assert urls(HOST, "good/app") == [f"https://{HOST}/v2/good/app"]
        assert urls(HOST, "bad/app", {HOST: HostSettings()}) == [f"https://{HOST}/v2/bad/app"]

    def test_mirrors_for_digests_or_tags_only(self, places: Places) -> None:
        places.write(
            "containers/registries.conf",
            f'[[registry]]\nlocation = "{HOST}"\n'
            '[[registry.mirror]]\nlocation = "a.example.com"\npull-from-mirror = "digest-only"\n'
            '[[registry.mirror]]\nlocation = "b.example.com"\npull-from-mirror = "tag-only"\n'
            '[[registry]]\nlocation = "other.example.com"\nmirror-by-digest-only = true\n'
            '[[registry.mirror]]\nlocation = "c.example.com"\n',
        )
        assert [(one.tags, one.digests) for one in endpoints_of(HOST, {})] == [
            (False, True),
            (True, False),
            (True, True),
        ]
        assert [(one.tags, one.digests) for one in endpoints_of("other.example.com", {})] == [
            (False, True),
            (True, True),
        ]

    def test_writing_goes_to_the_registry_of_the_name(self, places: Places) -> None:
        places.write(
            "containers/registries.conf", f'[[registry]]\nprefix = "{HOST}/a"\nlocation = "moved.example.com/b"\n'
        )
        moved, own = endpoints_of(HOST, {}, "a/app")
        assert (moved.url, moved.repository("a/app"), moved.mirror) == ("https://moved.example.com/v2", "b/app", True)
        assert (own.url, own.repository("a/app"), own.mirror) == (f"https://{HOST}/v2", "a/app", False)
        assert (own.tags, own.digests) == (False, False)

    def test_the_lists_of_version_1(self, places: Places) -> None:
        places.write(
            "containers/registries.conf",
            '[registries.search]\nregistries = ["x.example.com"]\n'
            f'[registries.insecure]\nregistries = ["{HOST}"]\n[registries.block]\nregistries = ["bad.example.com"]\n',
        )
        assert [one.verify for one in endpoints_of(HOST, {})] == [False, True]
        with pytest.raises(ConfigError, match="blocked"):
            endpoints_of("bad.example.com", {})

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('[[registry]]\nlocation = "a"\nblocked = maybe\n', "it is not TOML: .*at line 3"),
            ("[[registry]]\n", r"registry\[0\].prefix is missing, and so is location"),
            ("registry = 3\n", "registry is not a list of tables"),
            ("registry = [3]\n", "registry is not a list of tables"),
            ('[[registry]]\nlocation = "a"\nblocked = "yes"\n', r"registry\[0\].blocked is not true or false"),
            ("[[registry]]\nlocation = 3\n", r"registry\[0\].location is not a text"),
            (f'[[registry]]\nprefix = "{HOST}"\n', "registry.0..location is missing for the prefix"),
            (
                f'[[registry]]\nprefix = "{HOST}"\nlocation = "https://b"\n',
                "'https:..b' is not of the form HOST",
            ),
            (
                f'[[registry]]\nlocation = "{HOST}"\n[[registry.mirror]]\nlocation = ""\n',
                "the location '' is not of the form HOST",
            ),
            (
                f'[[registry]]\nlocation = "{HOST}"\n[[registry.mirror]]\nlocation = "b"\npull-from-mirror = "x"\n',
                "mirror.0..pull-from-mirror is 'x', and not all, digest-only or tag-only",
            ),
            (
                f"{BY_DIGEST}location = 'b'\npull-from-mirror = 'all'\n",
                "cannot stand beside mirror-by-digest-only",
            ),
            (f'[[registry]]\nprefix = "{HOST}/app"\nlocation = "b"\n', f"leaves no name for {HOST}/app"),
            (f'[[registry]]\nlocation = "{HOST}/app:1"\nblocked = true\n', "names one tag or digest"),
        ],
    )
    def test_a_damaged_file(self, places: Places, text: str, said: str) -> None:
        path = places.write("containers/registries.conf", text)
        with pytest.raises(ConfigError, match=rf"^{path}: .*{said}.*; correct it, or name the registry in a table"):
            endpoints_of(HOST, {}, "app")
        assert urls(HOST, "app", {HOST: HostSettings()}) == [f"https://{HOST}/v2/app"]


class TestContainerd:
    def test_hosts_and_server(self, places: Places) -> None:
        path = places.write(
            f"containerd/certs.d/{HOST}/hosts.toml",
            """
            server = "https://origin.example.com"
            ca = "origin.crt"
            [host."https://first.example.com:5000"]
              capabilities = ["pull"]
              ca = ["a.crt", "/b.crt"]
              client = [["c.cert", "c.key"]]
              [host."https://first.example.com:5000".header]
                x-token = "hidden"
                x-list = ["1", "2"]
            [host."http://second.example.com/proxy/v2"]
            [host."https://third.example.com/here"]
              override_path = true
              skip_verify = true
              client = "both.pem"
            """,
        )
        first, second, third, origin = endpoints_of(HOST, {})
        assert (first.url, first.tags, first.digests) == ("https://first.example.com:5000/v2", False, True)
        assert first.ca == (path.parent / "a.crt", Path("/b.crt"))
        assert (first.client_cert, first.client_key) == (path.parent / "c.cert", path.parent / "c.key")
        assert first.headers == {"x-token": "hidden", "x-list": "1, 2"}
        assert "hidden" not in repr(first)
        assert first.query == {"ns": HOST}
        assert second.url == "http://second.example.com/proxy/v2"
        assert (third.url, third.verify) == ("https://third.example.com/here", False)
        assert (third.client_cert, third.client_key) == (path.parent / "both.pem", None)
        assert (origin.url, origin.mirror, origin.query) == ("https://origin.example.com/v2", False, {"ns": HOST})
        assert origin.ca == (path.parent / "origin.crt",)
        assert [one.mirror for one in (first, second, third)] == [True] * 3

    def test_without_a_server_it_is_the_registry(self, places: Places) -> None:
        places.write("containerd/certs.d/docker.io/hosts.toml", '[host."https://mirror.example.com"]')
        mirror, hub = endpoints_of("docker.io", {})
        assert (mirror.query, hub.query) == ({"ns": "docker.io"}, {})
        assert hub.url == "https://registry-1.docker.io/v2"

    @pytest.mark.parametrize(
        ("capabilities", "can"),
        [
            ("[]", (False, False)),
            ('["pull"]', (False, True)),
            ('["resolve"]', (False, False)),
            ('["pull", "resolve"]', (True, True)),
            ('["push"]', (False, False)),
        ],
    )
    def test_capabilities(self, places: Places, capabilities: str, can: tuple[bool, bool]) -> None:
        """containerd asks for a tag only who can give the manifest, too."""
        text = f'[host."https://a.example.com"]\ncapabilities = {capabilities}'
        places.write(f"containerd/certs.d/{HOST}/hosts.toml", text)
        mirror, own = endpoints_of(HOST, {})
        assert (mirror.tags, mirror.digests) == can
        assert (own.tags, own.digests) == (True, True)

    @pytest.mark.parametrize("host", [HOST, "127.0.0.1:5000"])
    def test_what_is_not_verified_speaks_tls(self, places: Places, host: str) -> None:
        places.write(f"containerd/certs.d/{host}/hosts.toml", "skip_verify = true")
        schemes = [one.url.partition(":")[0] for one in endpoints_of(host, {}) if not one.verify or one.plain_after_tls]
        assert schemes == (["https"] if host == HOST else ["https", "http"])

    def test_hub_by_its_server_is_no_mirror(self, places: Places) -> None:
        places.write("containerd/certs.d/docker.io/hosts.toml", 'server = "https://registry-1.docker.io"')
        assert only("docker.io").query == {}

    @pytest.mark.parametrize("name", ["registry.example.com:5000", "registry.example.com_5000_", "_default"])
    def test_names_of_directories(self, places: Places, name: str) -> None:
        places.write(f"containerd/certs.d/{name}/hosts.toml", '[host."https://mirror.example.com"]')
        assert urls(f"{HOST}:5000")[0] == "https://mirror.example.com/v2"

    def test_certificates_in_place_of_the_file(self, places: Places) -> None:
        path = places.write(f"containerd/certs.d/{HOST}/x.crt")
        assert only(HOST).ca == (path,)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("server = 3", "server is not a text"),
            ('server = "ftp://x"', "'ftp://x' is not the URL of a server"),
            ('[host."https://u:p@x"]', "is not the URL of a server"),
            ('[host."https://[x"]', "is not the URL of a server"),
            ("host = 3", "host is not a table"),
            ("client = 3", "client is not a file"),
            ("client = [[1, 2]]", "client is not a file"),
            ("ca = [1]", "ca is not a list of texts"),
            ("[header]\nx = 3", "header.x is not a list of texts"),
            ("x = y", "it is not TOML: .*line 1"),
        ],
    )
    def test_a_damaged_file(self, places: Places, text: str, said: str) -> None:
        path = places.write(f"containerd/certs.d/{HOST}/hosts.toml", text)
        with pytest.raises(ConfigError, match=f"^{path}: .*{said}"):
            endpoints_of(HOST, {})
        assert urls("other.example.com") == ["https://other.example.com/v2"]


class TestDocker:
    def test_mirrors_are_for_docker_hub(self, places: Places) -> None:
        places.write(
            "docker/daemon.json",
            '{"registry-mirrors": ["https://a.example.com/", "http://b.example.com:5000"], "debug": true}',
        )
        assert urls("docker.io") == [
            "https://a.example.com/v2",
            "http://b.example.com:5000/v2",
            "https://registry-1.docker.io/v2",
        ]
        assert [one.mirror for one in endpoints_of("docker.io", {})] == [True, True, False]
        assert urls(HOST) == [f"https://{HOST}/v2"]

    def test_insecure_registries(self, places: Places) -> None:
        places.write("docker/daemon.json", f'{{"insecure-registries": ["{HOST}:5000", "10.1.0.0/16", "nonsense/x"]}}')
        for host in (f"{HOST}:5000", "10.1.2.3:5000"):
            assert [(one.verify, one.plain_after_tls) for one in endpoints_of(host, {})] == [
                (False, False),
                (True, True),
            ]
        assert urls(HOST) == [f"https://{HOST}/v2"]
        assert urls("10.2.2.3") == ["https://10.2.2.3/v2"]

    def test_an_ordinary_user_s_own_daemon(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        places.write("docker/daemon.json", '{"registry-mirrors": ["https://system.example.com"]}')
        places.write("~/.config/docker/daemon.json", '{"registry-mirrors": ["https://user.example.com"]}')
        for user, host in ((0, "system.example.com"), (1000, "user.example.com")):
            monkeypatch.setattr(os, "geteuid", lambda user=user: user)
            assert endpoints_of("docker.io", {})[0].host == host

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{\n  ]", r"it is not JSON: .*\(at line 2, column 3\)"),
            ("[]", "it is not a JSON object"),
            ('{"registry-mirrors": ["x"]}', "registry-mirrors has 'x', which is not the URL of a server"),
            ('{"registry-mirrors": 3}', "registry-mirrors is not a list of texts"),
        ],
    )
    def test_a_damaged_file(self, places: Places, text: str, said: str) -> None:
        path = places.write("docker/daemon.json", text)
        with pytest.raises(ConfigError, match=f"^{path}: .*{said}"):
            endpoints_of("docker.io", {})


class TestCertificates:
    def test_the_first_directory_that_there_is(self, places: Places) -> None:
        found = []
        for directory in ("docker/certs.d", "~/.config/docker/certs.d", "containers/certs.d"):
            found.append(places.write(f"{directory}/{HOST}/ca.crt"))
            assert only(HOST).ca == (found[-1],)
            assert only(HOST).applied == ("default", str(found[-1].parent))
        places.write(f"~/.config/containers/certs.d/{HOST}/readme")
        assert only(HOST).ca == ()
        assert only(f"{HOST}:5000").ca == ()

    def test_pairs_of_certificate_and_key(self, places: Places) -> None:
        for name in ("b.cert", "b.key", "a.cert", "a.key", "x.crt", "y.crt", "note.txt"):
            places.write(f"docker/certs.d/{HOST}/{name}")
        here = places.etc / "docker/certs.d" / HOST
        found = only(HOST)
        assert (found.client_cert, found.client_key) == (here / "a.cert", here / "a.key")
        assert found.ca == (here / "x.crt", here / "y.crt")

    def test_our_own_go_before(self, places: Places) -> None:
        places.write(f"docker/certs.d/{HOST}/ca.crt")
        assert only(HOST, {HOST: HostSettings(ca=Path("/own.pem"))}).ca == (Path("/own.pem"),)

    def test_docker_hub(self, places: Places) -> None:
        path = places.write("containers/certs.d/docker.io/ca.crt")
        assert only("docker.io").ca == (path,)

    @pytest.mark.parametrize(
        ("name", "said"),
        [("a.cert", "a.key is missing, which belongs to a.cert; .*ends in .crt"), ("a.key", "a.cert is missing")],
    )
    def test_half_a_pair(self, places: Places, name: str, said: str) -> None:
        path = places.write(f"docker/certs.d/{HOST}/{name}")
        with pytest.raises(ConfigError, match=f"^{path.parent}: {said}"):
            endpoints_of(HOST, {})


def test_a_file_is_read_once_until_it_changes(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    import tomllib

    read: list[str] = []
    parse: Callable[[str], object] = tomllib.loads
    monkeypatch.setattr(tomllib, "loads", lambda text: read.append(text) or parse(text))
    path = places.write("containers/registries.conf", CONF.format(HOST, "a.example.com"))
    for _ in range(3):
        assert urls(HOST)[0] == "https://a.example.com/v2"
    assert len(read) == 1
    path.write_text(CONF.format(HOST, "another.example.com"))
    assert urls(HOST)[0] == "https://another.example.com/v2"


def test_a_fifo_in_place_of_a_file_is_not_waited_for(places: Places) -> None:
    (places.etc / "containers").mkdir()
    os.mkfifo(places.etc / "containers" / "registries.conf")
    with pytest.raises(ConfigError, match="it is not a file"):
        endpoints_of(HOST, {})


def test_a_long_file_is_not_read_to_its_end(places: Places) -> None:
    path = places.write("docker/daemon.json")
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="longer than 4 MiB"):
        endpoints_of("docker.io", {})
