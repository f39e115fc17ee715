"""Byte streams: decompression, hashing, reading ahead, limits."""
