"""The kinds of clouds there are, by themselves: the help of commands names them, and imports nothing else."""

from __future__ import annotations

from typing import Literal

Kind = Literal["embedded", "multinode", "devstack"]
"""How a cloud is deployed."""
