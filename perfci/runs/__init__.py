"""One run, from job to archive."""
