"""A client of OCI registries: manifests, blobs, tags and referrers, without a store.

The protocol is the OCI distribution specification, and what registries of Docker do besides.
"""
