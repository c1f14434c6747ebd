"""A command group whose first word may also be an argument of its default command."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

DEFAULT = "start"


class DefaultGroup(TyperGroup):
    """`perfci run nightly` is `perfci run start nightly`; `perfci run list` stays what it is."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front where the first word names no command."""
        word = next((arg for arg in args if not arg.startswith("-")), None)
        if args and word not in self.commands and not {"--help", "-h"} & set(args):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)
