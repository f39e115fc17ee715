"""Registries: the contenders that pull an image, bring one up to date, and push one elsewhere.

The registry is Debian's docker-registry on loopback, in plain HTTP. The image has three gzip layers: two of small files
and one of few large files.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shlex
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks import inputs
from benchmarks.contenders import Contender, environment, layerstore, making
from benchmarks.workshop import Workshop

_IMAGE: Final = "bench/image:latest"
_CHILD: Final = "bench/child:latest"
_OCI: Final = "application/vnd.oci.image."
_VERIFIED: Final = "both digests of each layer, tar-split, extraction"


@dataclass(frozen=True)
class Packed:
    """A layer as it is in the registry.

    Attributes:
        path: the tar, compressed with gzip.
        digest: its digest in hex.
        diff_id: the digest of the tar in hex.
    """

    path: Path
    digest: str
    diff_id: str


def pulling(shop: Workshop) -> list[Contender]:
    """Return the contenders that pull an image of three layers into an empty store."""
    if shop.registry is None:
        return [_without_registry("layerstore pull, vfs")]
    host, layers = shop.registry, _layers(shop)
    put_image(host, _IMAGE, layers)
    name = f"{host}/{_IMAGE}"
    urls = [f"http://{host}/v2/bench/image/blobs/sha256:{layer.digest}" for layer in layers]
    fetch = "; ".join(f"curl -sS {url} | tar -xz -C x" for url in urls)
    storage = "--root cs --runroot run --storage-driver overlay"
    plain = f"pull -q --tls-verify=false {name}"
    copy = f"skopeo copy -q --src-tls-verify=false docker://{name} containers-storage:[overlay@$PWD/cs+$PWD/run]{name}"
    return [
        Contender("layerstore pull, vfs", _VERIFIED, layerstore("pull", "-q", name)),
        Contender(
            "layerstore pull, overlay2", _VERIFIED, layerstore("pull", "-q", name, driver="overlay2"), needs_root=True
        ),
        Contender("curl; tar -xz", "extraction, one after another, no digest", _shell(fetch), "curl", making("x")),
        _docker(shop, "docker pull", _VERIFIED, ["pull", "-q", name], before=["rmi", "-f", name]),
        _ctr(shop, name),
        Contender("skopeo copy", _VERIFIED, _shell(copy), "skopeo", needs_root=True),
        Contender("podman pull", _VERIFIED, _shell(f"podman {storage} {plain}"), "podman", needs_root=True),
        Contender("buildah pull", _VERIFIED, _shell(f"buildah {storage} {plain}"), "buildah", needs_root=True),
    ]


def updating(shop: Workshop) -> list[Contender]:
    """Return the contenders that pull an image of which all but a small layer is in the store."""
    if shop.registry is None:
        return [_without_registry("layerstore pull, vfs")]
    host, layers = shop.registry, _layers(shop)
    put_image(host, _IMAGE, layers)
    put_image(host, _CHILD, [*layers, _small_layer(shop)])
    base, child = f"{host}/{_IMAGE}", f"{host}/{_CHILD}"
    does = "one layer of ten files"
    root = shop.work / "podman"
    podman = ["podman", "--root", str(root), "--runroot", f"{root}/run", "--storage-driver", "overlay"]
    pull = [*podman, "pull", "-q", "--tls-verify=false"]
    found = [
        *(_updated(shop, driver, child, does) for driver in ("vfs", "overlay2")),
        _docker(shop, "docker pull", does, ["pull", "-q", child], before=["rmi", child]),
        Contender("podman pull", does, [*pull, child], "podman", _quietly([*podman, "rmi", child]), needs_root=True),
    ]
    return [one if one.missing else _prepared(one, child, base) for one in found]


def _prepared(one: Contender, child: str, base: str) -> Contender:
    """Return a contender that has pulled the image below the child, if it works here."""
    command = [base if word == child else word for word in one.command]
    done = subprocess.run(command, check=False, capture_output=True, env=environment())
    return replace(one, program=f"{one.program}-that-works-here") if done.returncode else one


def _updated(shop: Workshop, driver: str, child: str, does: str) -> Contender:
    root = str(shop.work / f"update-{driver}")
    return Contender(
        f"layerstore pull, {driver}",
        does,
        layerstore("pull", "-q", child, root=root, driver=driver),
        needs_root=driver == "overlay2",
        before=_quietly(layerstore("rmi", child, root=root, driver=driver)),
    )


def pushing(shop: Workshop) -> list[Contender]:
    """Return the contenders that push a pulled image to another repository of the same registry."""
    if shop.registry is None:
        return [_without_registry("layerstore push")]
    host = shop.registry
    put_image(host, _IMAGE, _layers(shop))
    base, root = f"{host}/{_IMAGE}", str(shop.work / "push-store")
    _run(layerstore("pull", "-q", base, root=root))
    # A new repository each time: `$$` is the number of the shell.
    target = f"{host}/bench/copy-$$:latest"
    ours = shlex.join(layerstore("push", "-q", base, root=root))
    copy = f"skopeo copy -q --src-tls-verify=false --dest-tls-verify=false docker://{base} docker://{target}"
    does = "a mount of each layer"
    found = [Contender("layerstore push", does, _shell(f"{ours} {target}"))]
    if shop.docker:
        docker = shlex.join(shop.docker)
        _run([*shop.docker, "pull", "-q", base])
        push = f"{docker} tag {base} {target}; {docker} push -q {target}"
        found.append(Contender("docker push", does, _shell(push), "docker"))
    else:
        found.append(_docker(shop, "docker push", does, [], before=[]))
    return [*found, Contender("skopeo copy", f"{does}, from registry to registry", _shell(copy), "skopeo")]


def _without_registry(name: str) -> Contender:
    return Contender(name, "", ["docker-registry"], "docker-registry-that-answers")


def _docker(shop: Workshop, name: str, does: str, command: list[str], *, before: list[str]) -> Contender:
    if shop.docker is None:
        return Contender(name, does, ["docker"], "dockerd-that-answers")
    return Contender(name, does, [*shop.docker, *command], "docker", _quietly([*shop.docker, *before]))


def _ctr(shop: Workshop, image: str) -> Contender:
    name, does = "ctr images pull", "digests, extraction, a copy of the blobs, flush"
    if shop.ctr is None:
        return Contender(name, does, ["ctr"], "containerd-that-answers")
    pull = [*shop.ctr, "images", "pull", "--plain-http", "--snapshotter", "overlayfs", image]
    return Contender(name, does, pull, "ctr", _quietly([*shop.ctr, "images", "rm", "--sync", image]))


def _layers(shop: Workshop) -> list[Packed]:
    """Return the three layers: a third and two thirds of the small files, and the large files."""
    third = shop.options.pulled_entries // 3
    found = []
    for number, entries in enumerate((third, 2 * third)):
        plain, packed = shop.work / f"pulled-{number}.tar", shop.work / f"pulled-{number}.tar.gz"
        if not packed.exists():
            inputs.small_files(plain, entries, start=number * 100)
            inputs.compress(plain, packed)
        found.append((plain, packed))
    large = shop.work / "pulled-large.tar", shop.work / "pulled-large.tar.gz"
    if not large[1].exists():
        inputs.large_files(*large, shop.options.pulled_bytes)
    return [Packed(packed, inputs.digest_of(packed), inputs.digest_of(plain)) for plain, packed in [*found, large]]


def _small_layer(shop: Workshop) -> Packed:
    plain, packed = shop.work / "ten.tar", shop.work / "ten.tar.gz"
    inputs.even_files(plain, 16, b"added")
    inputs.compress(plain, packed)
    return Packed(packed, inputs.digest_of(packed), inputs.digest_of(plain))


def put_image(host: str, name: str, layers: list[Packed]) -> None:
    """Upload an image, without the help of any contender."""
    repository, _, tag = name.partition(":")
    connection = http.client.HTTPConnection(host)
    diff_ids = [f"sha256:{layer.diff_id}" for layer in layers]
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    config_digest = hashlib.sha256(config).hexdigest()
    _put_blob(connection, repository, config_digest, config)
    described: list[dict[str, Any]] = []
    for layer in layers:
        _put_blob(connection, repository, layer.digest, layer.path)
        size = layer.path.stat().st_size
        described.append({"mediaType": f"{_OCI}layer.v1.tar+gzip", "digest": f"sha256:{layer.digest}", "size": size})
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}manifest.v1+json",
        "config": {"mediaType": f"{_OCI}config.v1+json", "digest": f"sha256:{config_digest}", "size": len(config)},
        "layers": described,
    }
    target, kind = f"/v2/{repository}/manifests/{tag}", str(manifest["mediaType"])
    _ask(connection, "PUT", target, json.dumps(manifest).encode(), {"Content-Type": kind})
    connection.close()


def _put_blob(connection: http.client.HTTPConnection, repository: str, digest: str, content: bytes | Path) -> None:
    place = _ask(connection, "POST", f"/v2/{repository}/blobs/uploads/", b"").getheader("Location")
    assert place is not None
    target = f"{place}{'&' if '?' in place else '?'}digest=sha256:{digest}"
    if isinstance(content, bytes):
        _ask(connection, "PUT", target, content)
        return
    with content.open("rb") as file:
        _ask(connection, "PUT", target, file, {"Content-Length": str(content.stat().st_size)})


def _ask(
    connection: http.client.HTTPConnection, method: str, target: str, body: Any, headers: dict[str, str] | None = None
) -> http.client.HTTPResponse:
    connection.request(method, target, body, {"Content-Type": "application/octet-stream", **(headers or {})})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"the registry answers {answer.status} to {method} {target}: {said[:500]!r}")
    return answer


def _shell(script: str) -> list[str]:
    return ["sh", "-ec", script]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, env=environment())


def _quietly(command: list[str]) -> Any:
    return lambda where: subprocess.run(command, check=False, capture_output=True, env=environment(), cwd=where)
