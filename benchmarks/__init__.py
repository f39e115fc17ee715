"""Layerstore and its peers at the same work, side by side: `make bench`; see docs/performance.md."""
