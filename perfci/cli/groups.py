"""Command groups: some import a command's module only when it is used, some have a default command."""

from __future__ import annotations

import copy
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT = "start"
EXIT_CODES = {
    0: "success.",
    2: "the command line, a file or a setting is wrong.",
    3: "the lab can't do it now.",
}
"""What every command's exit code means, where the command's own help says nothing else."""


class CommandAfterDashes(TyperCommand):
    """Takes the words after `--` for its argument `command`, also if an argument before it is left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the words after `--` from the other arguments."""
        end = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:end])
        if after := args[end + 1 :]:
            ctx.params["command"] = [*(ctx.params["command"] or ()), *after]
        return rest


class Entry(NamedTuple):
    """A command, or a group of commands, that is imported when it is used."""

    name: str
    place: str
    """Module and attribute, `perfci.cli.run:app`: a Typer application, or the function of one command."""
    help: str
    """First paragraph of its help. It stands here too, so that the list of commands imports none of them."""
    ends_in_command: bool = False
    """Its last argument is called `command`, and takes all that stands after `--`: `lab ssh ID -- uptime`."""

    def load(self) -> Any:
        """Import the module and return its click command."""
        module, _, attribute = self.place.partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            return _reflowed(typer.main.get_group(found))
        one = typer.Typer(add_completion=False)
        one.command(self.name, cls=CommandAfterDashes if self.ends_in_command else None)(found)
        return _reflowed(typer.main.get_command(one))


def _with_exit_codes(paragraphs: list[str]) -> list[str]:
    """Return a command's help with the exit codes of every command among its own, in their order."""
    lines = [one.splitlines() for one in paragraphs]
    own = [line for one in lines for line in one if line.startswith("Exit code ")]
    others = ["\n".join(line for line in one if line not in own) for one in lines]
    codes = {line.removeprefix("Exit code ").partition(":")[0]: line for line in own}
    codes = {str(code): f"Exit code {code}: {meaning}" for code, meaning in EXIT_CODES.items()} | codes
    return [*filter(None, others), "\n".join(codes[code] for code in sorted(codes))]


def _reflowed(command: Any) -> Any:
    """Return a command, and all commands below it, whose help has no line ends within a paragraph.

    Docstrings end their lines for who reads the source; a terminal has a width of its own. A line that
    begins with `Exit code` stays a line.
    """
    paragraphs = re.split(r"\n\s*\n", command.help or "")
    flowing = [" ".join(one.split()).replace(" Exit code ", "\nExit code ") for one in paragraphs]
    command.help = "\n\n".join(flowing if hasattr(command, "commands") else _with_exit_codes(flowing))
    for inner in getattr(command, "commands", {}).values():
        _reflowed(inner)
    return command


class LazyGroup(TyperGroup):
    """A group of which a command's module is imported when the command is used, and not before."""

    entries: ClassVar[tuple[Entry, ...]] = ()

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for one in self.entries:
            self.commands[one.name] = TyperCommand(one.name, help=one.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return name, command and what is left of `args`; here the command's module is imported."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = next((one for one in self.entries if one.name == name), None)
        return name, entry.load() if entry else command, rest


def lazy(entries: Iterable[Entry]) -> type[LazyGroup]:
    """Return the class of a group with these commands."""
    return type("LazyGroupOf", (LazyGroup,), {"entries": tuple(entries)})


class DefaultCommand(TyperCommand):
    """The default command of a group, whose name nobody needs to know."""

    def get_usage(self, ctx: Any) -> str:
        """Return the usage as people type it, without the command's name."""
        return super().get_usage(ctx).replace(f" {DEFAULT} ", " ", 1)


class DefaultGroup(TyperGroup):
    """`perfci run nightly` is `perfci run start nightly`; `perfci run list` stays what it is."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front where the first word is not the name of a command.

        The group's own `--help` shows the default command's arguments and options, too.
        """
        word = next((arg for arg in args if not arg.startswith("-")), None)
        if args and word not in self.commands and (word is not None or not {"--help", "-h"} & set(args)):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the default command's help as part of the group's."""
        default = self.commands[DEFAULT]
        both = copy.copy(self)
        both.params = [*default.params, *self.params]
        both.subcommand_metavar = "| COMMAND [ARGS]..."
        both.help = "\n\n".join(text for text in (self.help, default.help) if text)
        super(DefaultGroup, both).format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Offer the group's commands and what may stand first in the default command."""
        default = self.commands[DEFAULT]
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            return [*found, *default.shell_complete(ctx, incomplete)]
        arguments = [one for one in default.params if one.param_type_name == "argument"]
        return [*found, *(item for one in arguments[:1] for item in one.shell_complete(ctx, incomplete))]
