"""Reading the formats of image archives: Docker's archives, OCI layouts, and Skopeo's directories.

From the files to the images:

- `container` opens a tar or a directory, and reads the files in it by name, in place.
- `spool` writes an archive that cannot be read in place (compressed, or from a pipe) to a temporary file.
- `documents` reads the JSON documents, within limits: manifests, indexes and configs. It verifies their digests.
- `docker_archive` finds the images in an archive of `docker save`, from its `manifest.json`.
- `oci_layout` finds the images in an OCI image layout, from its `index.json`.
- `skopeo_dir` shows a `dir:` layout of Skopeo as an OCI layout.
- `platforms` parses platforms, and ranks images by how well they run on one.
- `find` is the entry point: it detects the format, and chooses the images by name and platform.
- `found` has the results: images, their layers, and skipped items with the reason.
"""
