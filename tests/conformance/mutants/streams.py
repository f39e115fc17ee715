"""Mutants that read a layer's stream wrongly."""

from __future__ import annotations

import threading

from layerstore_core import hookimpl
from tests.conformance.mutants.base import Mutant, unpack_into


class ReturnsBeforeFilesAreComplete(Mutant):
    """`apply_diff` extracts in a thread, and does not wait for it."""

    caught_in = "streams"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        from layerstore_core.conformance.rig import stream_of

        data = diff.read()

        def extract():
            try:
                unpack_into(self, layer_id, stream_of(data))
            except Exception:
                pass  # the layer was removed meanwhile

        threading.Timer(0.3, extract).start()
        stream = stream_of(data)
        return sum(entry.size for entry in stream.entries() if entry.type.value == "file")


class SwallowsErrors(Mutant):
    """A damaged tar is extracted up to the damage, without an error."""

    caught_in = "streams"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        try:
            return unpack_into(self, layer_id, diff)
        except Exception:
            return 0


class ReadsShort(Mutant):
    """`apply_diff` takes one read for the whole tar."""

    caught_in = "streams"

    @hookimpl
    def apply_diff(self, layer_id, diff):
        from layerstore_core.conformance.rig import stream_of

        size = unpack_into(self, layer_id, stream_of(diff.read(4096).ljust(10240, b"\0")))
        diff.drain()
        return size


class DamagesFilesLater(Mutant):
    """A file's content changes after it was extracted, so exports are not exact."""

    caught_in = "streams"

    @hookimpl
    def diff_getter(self, layer_id):
        for path in self.tree(layer_id).rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_size:
                with open(path, "r+b") as stream:
                    stream.write(b"\xff")
                break
