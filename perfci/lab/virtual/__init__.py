"""The virtual lab: simulated machines behind simulated BMCs, for a developer who has no hardware."""
