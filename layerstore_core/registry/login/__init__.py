"""Where credentials for registries are kept: the files of Docker and podman, and programs that those name."""
