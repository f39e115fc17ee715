"""The config of an image: its model, the options that change it, and times of creation."""
