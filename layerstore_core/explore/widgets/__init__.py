"""The widgets of the program in a terminal."""
