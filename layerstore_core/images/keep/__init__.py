"""Keeping what belongs to images besides their configs and layers, and giving it back.

- `incoming` says what a container has of manifests, indexes and referrers, and writes it down when images are loaded.
- `blobs` keeps layers as they came compressed.
"""
