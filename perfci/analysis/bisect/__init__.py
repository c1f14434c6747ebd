"""Which step made it slower: a Bayesian bisect on noisy measurements, without I/O, clock or database."""
