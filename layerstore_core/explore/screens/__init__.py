"""The screens of the program in a terminal."""
