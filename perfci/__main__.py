"""`python -m perfci`."""

from perfci.cli.main import run_command

run_command()
