"""Machines and who holds them."""
