"""Parts of the commands that work with registries."""
