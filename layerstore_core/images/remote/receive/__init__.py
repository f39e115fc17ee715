"""Receiving blobs: downloads into files that are read while they grow, and that a later pull goes on with."""
