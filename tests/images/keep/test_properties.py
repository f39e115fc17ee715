"""Any layout of images for several platforms with referrers comes back, blob by blob."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.images import Images
from tests.images.archives import Files, oci_index, oci_manifest, tar_files
from tests.images.keep.layouts import artifact, attestation, blobs_of, cosign, image_for, named, write_index
from tests.images.keep.test_incoming import foreign_gzip
from tests.images.keep.test_outgoing import files_of, zstd
from tests.store.layers import BASE, MIDDLE, TOP

PACK = {"plain": lambda data: data, "zlib": gzip.compress, "foreign": foreign_gzip, "zstd": zstd}
PLATFORMS = ("amd64", "arm64", "s390x")


@st.composite
def layouts(draw: st.DrawFn) -> Files:
    """Draw a layout: one image or an index of some, perhaps nested, with attestations, signatures and SBOMs."""
    files: Files = {}
    entries: list[dict[str, Any]] = []
    extra: list[dict[str, Any]] = []
    for architecture in draw(st.lists(st.sampled_from(PLATFORMS), min_size=1, max_size=3, unique=True)):
        layers = draw(st.lists(st.sampled_from((BASE, MIDDLE, TOP)), min_size=0, max_size=3, unique=True))
        packed = [PACK[draw(st.sampled_from(sorted(PACK)))](layer) for layer in layers]
        entry = oci_manifest(files, image_for(architecture, layers, packed))
        entries.append({**entry, "platform": {"architecture": architecture, "os": "linux"}})
        if draw(st.booleans()):
            entries.append(attestation(files, entry))
        if draw(st.booleans()):
            extra.append(cosign(files, entry, draw(st.binary(max_size=20))))
        for _ in range(draw(st.integers(0, 2))):
            extra.append(artifact(files, draw(st.sampled_from([entry, *extra])), draw(st.binary(max_size=20))))
    top = oci_index(files, entries) if len(entries) > 1 or draw(st.booleans()) else entries[0]
    for _ in range(draw(st.integers(0, 2))):
        top = oci_index(files, [top])
    if draw(st.booleans()):
        extra.append(cosign(files, top, b"of all"))
    annotations = draw(st.dictionaries(st.sampled_from(("a", "b.c")), st.text(max_size=5)))
    return write_index(files, [named(top, "docker.io/library/app:1", **annotations), *extra])


@settings(max_examples=max(1, settings.default.max_examples // 4), suppress_health_check=[HealthCheck.too_slow])
@given(files=layouts())
def test_any_layout_comes_back(files: Files) -> None:
    with (
        TemporaryDirectory() as directory,
        LayerStore.open(
            StoreConfig(root=Path(directory, "store"), driver="vfs", durability="none", keep_blobs="unreproducible")
        ) as store,
    ):
        images = Images(store)
        images.load(io.BytesIO(tar_files(files)), all_platforms=True)
        saved = images.save("app:1", Path(directory, "back"), form="oci", all_platforms=True, referrers=True)
        assert all(one.as_loaded for one in saved.manifests)
        assert blobs_of(files_of(Path(directory, "back"))) == blobs_of(files)
        images.remove("app:1")
        assert store.layers() == {}
        left = [path for path in Path(directory, "store/layerstore").rglob("*") if path.is_file()]
        assert not [path for path in left if path.parent.name in ("sha256", "images") or "blobs" in path.parts]
