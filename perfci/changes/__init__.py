"""Which changes there are between two revisions of everything: what git says, and nothing else."""
