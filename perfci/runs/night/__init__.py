"""One night, from top to bottom."""
