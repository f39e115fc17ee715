"""Unpacking: a layer's tar becomes a tree of files."""
