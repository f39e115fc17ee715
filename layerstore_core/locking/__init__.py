"""Kernel locks that several processes share."""
