"""What is on disk and what lives: folders, the archive, processes, stages."""
