"""Benchmarks: layerstore and its peers do the same work, side by side (`make bench`; see docs/performance.md)."""
