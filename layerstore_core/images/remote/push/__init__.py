"""Pushing images to registries.

- `image` pushes an image: a save whose output is a repository.
- `blobs` is that output: blobs that are there, are mounted, or are sent.
- `documents` writes the manifests after them, with their referrers, and the tag last.
"""
