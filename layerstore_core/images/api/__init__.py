"""The class `Images`, which programs use: its methods by subject; the work is done in the other packages."""
