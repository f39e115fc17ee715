"""layerstore's kernels in C. Programs use layerstore_core, which finds this package; nothing here is public.

Each kernel does what a part of layerstore_core does in Python, for many entries in one call. What is not plain it
declines, and leaves it to Python. The README of the package has the rules that they keep.
"""
