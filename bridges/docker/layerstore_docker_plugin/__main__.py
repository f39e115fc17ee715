"""`python -m layerstore_docker_plugin` is `layerstore-graphdriver`."""

from layerstore_docker_plugin.command import main

main()
