"""Diffs: changes between trees of files, and a tar of the changes."""
