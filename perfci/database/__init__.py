"""The controller's database: what perfci knows and can't read from the archive."""
