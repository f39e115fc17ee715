"""The groups of tests, a module each."""
