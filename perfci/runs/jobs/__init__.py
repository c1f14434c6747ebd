"""What is asked for: job files and what follows from them; no effects."""
