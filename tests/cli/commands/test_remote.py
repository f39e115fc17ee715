"""`inspect`, `files`, `cat` and `diff` with images in a registry, which are not pulled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from tests import tars
from tests.across.chains import d, f, sym
from tests.cli.conftest import Run, docker_archive
from tests.cli.test_docs import SECTIONS
from tests.images.remote.lazy_formats import Packed, estargz, zstd_chunked
from tests.images.remote.test_image import add, add_index, spec
from tests.images.remote.test_lazy_layers import gzipped, plain
from tests.registry.fake_content import OCI_INDEX, OCI_MANIFEST
from tests.registry.fake_registry import FakeRegistry

BASE = estargz(tars.tar(d(b"etc"), f(b"etc/hosts", b"old\n"), f(b"etc/gone", b"gone\n"), sym(b"link", b"etc")))
TOP = gzipped(tars.tar(d(b"etc"), f(b"etc/.wh.gone"), f(b"etc/hosts", b"new\n", mode=0o4600), d(b"usr")))
LAYERS = (BASE, TOP)


@pytest.fixture
def ref(fake_registry: FakeRegistry) -> str:
    add(fake_registry, LAYERS, "1", config={"Env": ["A=b"], "Cmd": ["sh"]})
    return f"{fake_registry.host}/app:1"


def test_files_lists_what_a_pulled_image_has(run: Run, ref: str, root: Path) -> None:
    assert run("files", "--remote", ref).lines == [
        "/.no.prefetch.landmark", "/etc", "/link", "/stargz.index.json", "/usr",
    ]  # fmt: skip
    assert run("files", "--remote", ref, "link/").lines == ["/etc/hosts"]
    assert run("files", ref, "/etc/hosts", "-l", "--remote").lines == [
        "-rwS------  0:0  4  2020-09-13 12:26:40  /etc/hosts"
    ]
    assert not root.exists()
    run("pull", ref)
    for options in ([], ["-R"], ["-lR"]):
        assert run("files", "--remote", ref, "/", *options).lines == run("files", ref, "/", *options).lines
    for options in (["--json"], ["--json", "-R"]):
        for more in ([], ["--verify"]):
            assert run("files", "--remote", ref, *options, *more).json == run("files", ref, *options).json


def test_cat_writes_contents_without_a_store(run: Run, ref: str, root: Path, fake_registry: FakeRegistry) -> None:
    assert run("cat", "--remote", ref, "/link/hosts").stdout == b"new\n"
    assert run("cat", "--remote", ref, "etc/hosts", "etc/../etc/hosts", "--verify").stdout == b"new\n" * 2
    answer = run("cat", "--remote", ref, "link/hosts", "--json").json
    assert [(one["path"], b64decode(one["content"])) for one in answer["files"]] == [("/etc/hosts", b"new\n")]
    assert not root.exists()


def test_cat_of_one_file_fetches_what_it_needs(run: Run, fake_registry: FakeRegistry) -> None:
    layer = estargz(tars.tar(f(b"big", bytes(range(256)) * 4000), f(b"small", b"small\n")))
    add(fake_registry, [layer], "1")
    assert run("cat", "--remote", f"{fake_registry.host}/app:1", "small", store=False).stdout == b"small\n"
    start, end = layer.toc_range
    assert fake_registry.log.sent("/blobs/") - 51 - (end - start) < 200
    assert fake_registry.log.count() == 4


def test_cat_of_several_files_fetches_neighbours_at_once(run: Run, fake_registry: FakeRegistry) -> None:
    add(fake_registry, [estargz(tars.tar(*(f(b"f%d" % n, b"%d" % n) for n in range(9))))], "1")
    outcome = run("cat", "--remote", f"{fake_registry.host}/app:1", "f7", "f1", "f4", "f1", store=False)
    assert outcome.stdout == b"7141"
    assert fake_registry.log.count() == 4


def test_cat_of_several_files_fetches_a_stream_once(run: Run, fake_registry: FakeRegistry) -> None:
    layer = gzipped(tars.tar(*(f(b"f%d" % n, b"%d" % n) for n in range(9))))
    add(fake_registry, [layer], "1")
    ref = f"{fake_registry.host}/app:1"
    assert run("cat", "--remote", ref, "f7", "f1", "f1", store=False).stdout == b"711"
    assert fake_registry.log.sent(f"/blobs/sha256:{sha256(layer.blob).hexdigest()}") == len(layer.blob)
    fake_registry.repository("app").blobs[f"sha256:{sha256(layer.blob).hexdigest()}"] = layer.blob[:-1] + b"x"
    assert "damaged" in run("cat", "--remote", ref, "f7", "f1", code=1).stderr


@pytest.mark.parametrize(
    ("command", "kind", "text"),
    [
        (["cat", "--remote", "REF", "/etc/none"], "FileNotFoundError", "files --remote REF -R' lists all files there"),
        (["cat", "--remote", "REF", "/etc"], "IsADirectoryError", "/etc"),
        (["files", "--remote", "REF", "/etc/gone"], "FileNotFoundError", "in REF"),
        (["files", "--remote", "HOST/app:2"], "NotInRegistry", "app:2"),
        (["inspect", "--remote", "REF", "--platform", "linux/arm64"], "InvalidImage", "for linux/amd64, not for linux"),
    ],
)
def test_errors_say_what_and_where(
    run: Run, ref: str, fake_registry: FakeRegistry, command: list[str], kind: str, text: str
) -> None:
    def words(one: str) -> str:
        return one.replace("REF", ref).replace("HOST", fake_registry.host)

    error = run("--json", *map(words, command), code=1).error
    assert error["type"] == kind
    assert words(text) in error["message"]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["cat", "app:1", "x", "--verify"], "--verify is for images in registries: it needs --remote"),
        (["files", "app:1", "--platform", "linux/arm64"], "--platform is for images in registries"),
        (["diff", "app:1", "app:1", "--verify"], "--verify is for images in registries"),
        (["files", "--remote", "App"], "cannot name an image"),
        (["files", "--remote", "sha256:" + "0" * 64], "says no registry; give NAME@DIGEST"),
        (["inspect", "--remote", "app:1", "--raw", "--json"], "--raw"),
        (["inspect", "--remote", "app:1", "--verify"], "No such option"),
    ],
)
def test_wrong_usage_is_explained(run: Run, command: list[str], text: str) -> None:
    assert text in run(*command, code=2).stderr


def test_inspect_shows_manifest_config_and_layers(run: Run, ref: str, root: Path, fake_registry: FakeRegistry) -> None:
    lines = run("inspect", "--remote", ref).lines
    digest = fake_registry.repository("app").tags["1"]
    config = spec(LAYERS, config={"Env": ["A=b"], "Cmd": ["sh"]})
    assert lines[:2] == [f"Name:        {ref}", f"Digest:      {digest}"]
    assert f"Image ID:    {config.image_id}" in lines
    assert "Platform:    linux/amd64" in lines
    assert "    A=b" in lines
    layer = fake_registry.repository("app").manifests[digest][1]
    rows = [line.split() for line in lines[-2:]]
    assert [row[0] for row in rows] == [one["digest"] for one in json.loads(layer)["layers"]]
    assert [row[-1] for row in rows] == ["estargz", "none"]
    document = run("--json", "inspect", "--remote", ref).json
    assert document["manifest"] == json.loads(layer)
    assert document["compressed_size"] == len(BASE.blob) + len(TOP.blob)
    assert [one["table_of_contents"] for one in document["layers"]] == ["estargz", None]
    assert [key for key in (*document, *document["layers"][0]) if f"`{key}`" not in SECTIONS["inspect"]] == []
    assert not root.exists()
    run("pull", ref)
    local = run("--json", "inspect", ref).json
    same = ("id", "platform", "created", "digests", "annotations", "chain_id", "config")
    assert {key: document[key] for key in same} == {key: local[key] for key in same}
    assert [one["diff_id"] for one in document["layers"]] == [one["diff_id"] for one in local["layers"]]
    assert local.keys() <= document.keys()


def test_inspect_prints_documents_byte_for_byte(run: Run, fake_registry: FakeRegistry) -> None:
    digests = add_index(fake_registry, ["linux/amd64", "linux/arm64", "windows/amd64"])
    ref = f"{fake_registry.host}/app:1"

    def raw(*options: str) -> str:
        return f"sha256:{sha256(run('inspect', '--remote', ref, '--raw', *options, store=False).stdout).hexdigest()}"

    assert raw() == digests[-1]
    assert raw("--platform", "linux/arm64") == digests[1]
    lines = run("inspect", "--remote", ref, "--platform", "arm64").lines
    assert f"Digest:      {digests[-1]}" in lines
    assert f"Manifest:    {digests[1]}" in lines
    assert [line.split()[:2] for line in lines[-3:]] == [
        ["linux/amd64", digests[0]], ["linux/arm64", digests[1]], ["windows/amd64", digests[2]],
    ]  # fmt: skip
    assert run("--json", "inspect", "--remote", ref, "--platform", "amd64").json["index"]["manifests"][1]["digest"]


@pytest.mark.parametrize("referrers", [True, False])
def test_inspect_lists_the_artifacts_of_an_image(
    run: Run, ref: str, fake_registry: FakeRegistry, referrers: bool
) -> None:
    digest = fake_registry.repository("app").tags["1"]
    subject = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}
    signature = {"schemaVersion": 2, "artifactType": "application/vnd.example", "layers": [], "subject": subject}
    signed = fake_registry.add_manifest("app", signature, OCI_MANIFEST)
    fake_registry.settings.referrers = referrers
    if not referrers:
        entry = {"mediaType": OCI_MANIFEST, "digest": signed, "size": 5, "artifactType": "application/vnd.example"}
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        fake_registry.add_manifest("app", index, OCI_INDEX, digest.replace(":", "-"))
    assert "Referrers:   1" in run("inspect", "--remote", ref).lines
    expected = {"digest": signed, "subject": digest, "type": "application/vnd.example"}
    assert run("--json", "inspect", "--remote", ref).json["referrers"] == [expected]
    fake_registry.faults.on("GET .*/referrers/").error(403, "DENIED")
    outcome = run("inspect", "--remote", ref)
    assert "Referrers:   1" not in outcome.lines
    assert "are not known" in outcome.stderr


def test_inspect_shows_an_artifact(run: Run, fake_registry: FakeRegistry) -> None:
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{'1' * 64}", "size": 2}
    document = {"schemaVersion": 2, "artifactType": "application/vnd.example\x1b", "config": empty, "layers": [empty]}
    fake_registry.add_manifest("app", document, "application/vnd.oci.image.manifest.v1+json", "sig")
    ref = f"{fake_registry.host}/app:sig"
    assert r"Artifact:    application/vnd.example\x1b" in run("inspect", "--remote", ref).lines
    answer = run("--json", "inspect", "--remote", ref).json
    assert (answer["artifact_type"], answer["config"], answer["id"]) == ("application/vnd.example\x1b", None, None)
    assert "artifact, not an image" in run("files", "--remote", ref, code=1).stderr


def test_diff_of_two_images_in_a_registry_needs_no_store(run: Run, root: Path, fake_registry: FakeRegistry) -> None:
    add(fake_registry, LAYERS, "1")
    other = zstd_chunked(tars.tar(d(b"etc"), f(b"etc/hosts", b"newer\n"), f(b"more", b"more")))
    add(fake_registry, [BASE, other], "2")
    first, second = f"{fake_registry.host}/app:1", f"{fake_registry.host}/app:2"
    expected = ["C /etc/hosts  (mode 4600 -> 0644, size 4 -> 6, content)", "A /etc/gone", "A /more", "D /usr"]
    assert sorted(run("diff", "--remote", first, second).lines) == sorted(expected)
    assert sorted(run("diff", f"remote:{first}", f"remote:{second}").lines) == sorted(expected)
    assert not root.exists()
    fake_registry.log.clear()
    assert run("diff", "--remote", first, first).lines == []
    assert fake_registry.log.count() == 4
    assert run("diff", "--remote", first, second, "--exit-code", code=1).lines
    run("load", docker_archive(root.parent, "local:1", layers=(BASE.tar, TOP.tar)))
    run("diff", "--remote", first, second, "-o", str(root.parent / "diff.tar"))
    assert b"more" in (root.parent / "diff.tar").read_bytes()


def test_layers_that_are_here_are_not_fetched_for_a_diff(run: Run, fake_registry: FakeRegistry, tmp_path: Path) -> None:
    other = estargz(tars.tar(d(b"etc"), f(b"etc/hosts", b"NEW\n", mode=0o4600), f(b"etc/gone", b"gone\n")))
    add(fake_registry, [BASE, other], "2")
    ref = f"{fake_registry.host}/app:2"
    run("load", docker_archive(tmp_path, "here:1", layers=(BASE.tar, TOP.tar)))
    for words, expected in (
        (["here:1", f"remote:{ref}"], ["A /etc/gone", "A /stargz.index.json", "C /etc/hosts  (content)", "D /usr"]),
        ([f"remote:{ref}", "here:1"], ["A /usr", "C /etc/hosts  (content)", "D /etc/gone", "D /stargz.index.json"]),
    ):
        fake_registry.log.clear()
        found = [line for line in run("diff", *words).lines if "stargz" not in line]
        assert sorted(found) == [line for line in expected if "stargz" not in line]
        layer = f"sha256:{sha256(BASE.blob).hexdigest()}"
        assert fake_registry.log.count(f"/blobs/{layer}") == 0
        # Not even the content that differs: the table of contents has its digest.
        assert fake_registry.log.count("/blobs/") == 3
    run("tag", "here:1", "remote:1")
    assert "docker.io/library/remote:1" in run("diff", "remote:1", "here:1", code=2).stderr
    assert run("diff", "docker.io/library/remote:1", "here:1").lines == []


def test_layer_that_is_not_what_the_manifest_says_is_refused(run: Run, fake_registry: FakeRegistry) -> None:
    wrong = Packed(BASE.blob, BASE.tar, {"containerd.io/snapshot/stargz/toc.digest": f"sha256:{'0' * 64}"}, BASE.toc)
    add(fake_registry, [wrong], "1")
    ref = f"{fake_registry.host}/app:1"
    error = run("files", "--remote", ref, code=1)
    assert "table of contents" in error.stderr
    assert "--verify" in error.stderr
    assert error.stdout == b""
    assert "/etc" in run("files", "--remote", ref, "--verify").lines


def test_layers_are_as_large_as_the_settings_allow(run: Run, ref: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERSTORE_MAX_LAYER_SIZE", "1000")
    assert "larger than the limit of 1000 bytes" in run("files", "--remote", ref, code=1).stderr
    assert "larger than the limit of 1000 bytes" in run("cat", "--verify", "--remote", ref, "x", code=1).stderr


@pytest.mark.parametrize("pack", [plain, zstd_chunked])
def test_a_large_file_takes_little_memory(pack: Callable[[bytes], Packed], fake_registry: FakeRegistry) -> None:
    content = os.urandom(8 << 20) * 11
    add(fake_registry, [pack(tars.tar(f(b"large", content)))], "1")
    command = [sys.executable, "-m", "layerstore_core", "cat", "--remote", f"{fake_registry.host}/app:1", "large"]
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", measure, *command], capture_output=True, text=True, check=True)
    assert int(done.stdout) << 10 < 80 << 20 < len(content)
    assert fake_registry.log.sent("/blobs/") >= len(content)
