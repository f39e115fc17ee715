"""The files, layers, images and programs that the examples of help texts and documents use."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

from layerstore_core import LayerStore
from layerstore_core.images import Images
from tests.images.archives import ImageSpec, docker_archive, oci_files, write_files
from tests.registry.fake_content import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, descriptor
from tests.registry.fake_registry import FakeRegistry

TOP = Path(__file__).resolve().parents[2]

#: Replacements for programs that an example names and that cannot run here: a daemon, a registry, an installer.
#: Each checks its arguments and input as far as it can, or writes the output that the example expects.
REPLACED_PROGRAMS = {
    "docker": """case $1 in
        save) cat "$HERE/debian.tar";;
        load) cat >"$HERE/loaded.tar"; tar -tf "$HERE/loaded.tar" | grep -qx manifest.json;;
        plugin) [ "$2" != create ] || [ -f "$4/config.json" ];;
        *) exit 2;;
        esac""",
    "skopeo": """[ "$1" = copy ] || exit 2; target=${3#oci:}; target=${target%%:*}
        rm -rf "$target"; cp -a "$HERE/layout" "$target" """,
    "podman": """[ "$1" = unshare ] || exit 2; shift; exec unshare -Urm "$@" """,
    "pip": """[ "$1" = install ] || exit 2; shift
        for project; do [ -f "$TOP/$project/pyproject.toml" ] || { echo "no project: $project" >&2; exit 1; }; done""",
    "systemctl": "exit 0",
    "ctr": """case " $* " in
        *" --snapshotter layerstore "* | *" check "*) exit 0;;
        *) exit 2;;
        esac""",
    "ctr-remote": """[ "$1 $2 $3 $4" = "images rpull --snapshotter layerstore" ]""",
    "nerdctl": """case "${CONTAINERD_SNAPSHOTTER:-} $* " in
        "layerstore "* | *" --snapshotter layerstore "*) exit 0;;
        *) exit 2;;
        esac""",
    "crictl": "exit 0",
    "layerstore-snapshotter": """program=$(PATH=${PATH#*:} command -v layerstore-snapshotter)
        [ "$1" = --print-unit ] && exec "$program" "$@" >/dev/null
        exec timeout --preserve-status 1 "$program" "$@" --address "$HERE/snapshotter.sock" """,
    "dockerd": "exit 0",
    "layerstore-graphdriver": """program=$(PATH=${PATH#*:} command -v layerstore-graphdriver)
        [ "$1" = plugin ] && exec "$program" "$@"
        case " $* " in *" --address "*) exec timeout --preserve-status 60 "$program" "$@";; esac
        exec timeout --preserve-status 1 "$program" "$@" --address "$HERE/plugin.sock" """,
}


def tar_of(**files: str) -> bytes:
    """Return a tar of regular files that the user of the test owns."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid = len(content), os.getuid(), os.getgid()
            tar.addfile(entry, io.BytesIO(content.encode()))
    return buffer.getvalue()


@dataclass(frozen=True)
class Surroundings:
    """A directory in which examples run.

    Attributes:
        here: the directory.
        program: the directory of the program `layerstore`.
        layer: the hex digits of a layer's chain ID that stand for `3f1c9a2b`.
        image: those of an image's ID.
    """

    here: Path
    program: Path
    layer: str
    image: str

    def copied(self, here: Path) -> Surroundings:
        """Return a copy in another directory."""
        subprocess.run(["cp", "-a", self.here, here], check=True)
        return replace(self, here=here)

    def run(self, script: str, *, driver: str = "vfs") -> subprocess.CompletedProcess[str]:
        """Run lines in a shell, which ends at the first line that fails. `registry.example.com` is a registry here."""
        if "registry.example.com" not in script:
            return self._run(script, driver)
        with registry() as fake:
            return self._run(script.replace("registry.example.com", fake.host), driver)

    def _run(self, script: str, driver: str) -> subprocess.CompletedProcess[str]:
        script = script.replace("tag 3f1c9a2b", f"tag {self.image[:8]}").replace("3f1c9a2b", self.layer[:8])
        script = re.sub(r"/srv/layers|/var/lib/(layerstore|docker)|~/layers", str(self.here / "store"), script)
        script = script.replace("/run/layers.sock", str(self.here / "layers.sock"))
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("LAYERSTORE", "XDG", "PYTEST"))
        }
        environment |= {
            "HOME": str(self.here / "home"),
            "HERE": str(self.here),
            "TOP": str(TOP),
            "PATH": f"{self.here}/bin:{self.program}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LAYERSTORE_ROOT": str(self.here / "store"),
            "LAYERSTORE_DRIVER": driver,
        }
        prelude = 'set -euo pipefail; fpath=(- "$HOME/zsh"); cd "$HERE"\n'
        return subprocess.run(
            ["bash", "-c", prelude + script],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def registry() -> FakeRegistry:
    """Return a registry with the image `app:1.0`, for two platforms."""
    fake = FakeRegistry()
    entries = []
    for architecture in ("amd64", "arm64"):
        image = ImageSpec([tar_of(app="print()\n")], extra={"architecture": architecture})
        digest = fake.add_image("app", image.layers, config=image.config, layer_type=OCI_LAYER)
        manifest = fake.repository("app").manifests[digest][1]
        platform = {"os": "linux", "architecture": architecture}
        entries.append({**descriptor(manifest, OCI_MANIFEST), "platform": platform})
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    fake.add_manifest("app", index, OCI_INDEX, "1.0")
    return fake


def make_surroundings(here: Path, program: Path, *, driver: str = "vfs") -> Surroundings:
    """Make the directory `here`: tars, images, a store with a layer and images, and the replaced programs."""
    here.mkdir(parents=True)
    for directory in (".local/share/bash-completion/completions", ".config/fish/completions", "zsh"):
        (here / "home" / directory).mkdir(parents=True)
    (here / "bin").mkdir()
    for name, script in REPLACED_PROGRAMS.items():
        replaced = here / "bin" / name
        replaced.write_text(f"#!/usr/bin/env bash\n{script}\n")
        replaced.chmod(0o755)
    base, app = tar_of(hosts="127.0.0.1 localhost\n"), tar_of(app="print()\n")
    (here / "base.tar").write_bytes(base)
    (here / "layer.tar").write_bytes(base)
    (here / "app.tar").write_bytes(app)
    for name in ("base", "app"):
        subprocess.run(["gzip", "-k", here / f"{name}.tar"], check=True)
    (here / "hello").write_bytes(b"#!/bin/sh\n")
    (here / "conf").mkdir()
    (here / "conf" / "app.conf").write_bytes(b"debug = no\n")
    (here / "rootfs" / "etc").mkdir(parents=True)
    shutil.copy(here / "app.tar.gz", here / "site.tar.gz")
    images = (
        ImageSpec([tar_of(os="debian")], ["debian:12"]),
        ImageSpec([tar_of(os="debian 13")], ["debian:13"]),
        ImageSpec([app], ["app:1.0", "app:1", "example/app:1.0"]),
    )
    (here / "debian.tar").write_bytes(docker_archive(images[0]))
    (here / "image.tar").write_bytes(docker_archive(*images))
    write_files(here / "layout", oci_files(ImageSpec([app], extra={"architecture": "arm64"})))
    with LayerStore.open(root=here / "store", driver=driver, durability="none") as store:
        layer = store.register(here / "base.tar")
        store.pin(layer)
        store.create_rw_layer("spare").close()
        loaded = Images(store).load(here / "image.tar")
        Images(store).load(here / "debian.tar")
        image = loaded[0].image_id.hex
        return Surroundings(here, program, layer.chain_id.hex, image)


def blocks(document: Path, *languages: str) -> list[str]:
    """Return the code blocks of a Markdown document, without their indentation and prompts."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^\1```$", document.read_text(), re.MULTILINE | re.DOTALL)
    texts = []
    for indent, language, text in found:
        if language in languages:
            lines = [line.removeprefix(indent) for line in text.splitlines()]
            texts.append("\n".join(line.removeprefix("$ ") for line in lines))
    return texts


def remove(here: Path) -> None:
    """Unmount the mounts that examples have left, and remove the directory."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        mount = line.split()[1]
        if mount.startswith(f"{here}/"):
            subprocess.run(["umount", mount], check=True)
    shutil.rmtree(here)
