"""The contenders of each piece of work, by subject."""
