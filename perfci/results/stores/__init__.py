"""Where results are kept so that they can be asked for: indexes of the archive."""
