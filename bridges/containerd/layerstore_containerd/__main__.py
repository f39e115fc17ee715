"""`python -m layerstore_containerd` is the program `layerstore-snapshotter`."""

from layerstore_containerd.command import main

main()
