"""YAML whose every value knows its line, so that an error can name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from perfci.parsing import TAG_ERRORS
from perfci.validation import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.validation import Path


class NotYamlError(ValueError):
    """The text is not YAML; `line` counts from 1."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A parsed document: its plain data, the lines of its keys and items, and keys that stand twice."""

    data: Any
    lines: dict[Path, int]
    repeated: tuple[Fault, ...]

    def line(self, path: Path) -> int:
        """Return the line (from 1) of a path, or of the nearest part above it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse(text: str) -> YamlDocument:
    """Parse one YAML document. Raises NotYamlError."""
    try:
        return _parsed(yaml.SafeLoader(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYamlError(error.problem or "can't be parsed", mark.line + 1 if mark else 1) from error
    except RecursionError as error:
        raise NotYamlError("nested too deeply", 1) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise NotYamlError(f"a character that YAML does not allow: {chr(error.character)!a}", line) from error


def _parsed(loader: yaml.SafeLoader) -> YamlDocument:
    node = loader.get_single_node()
    if node is None:
        return YamlDocument(None, {}, ())
    lines: dict[Path, int] = {}
    repeated = tuple(_walk(node, (), lines, ()))
    try:
        data = loader.construct_document(node)
    except ValueError as error:  # PyYAML lets it through: a date such as 2026-13-45
        raise NotYamlError(str(error), lines[()]) from error
    except TAG_ERRORS as error:
        raise NotYamlError("a value does not fit the tag before it, such as !!bool", lines[()]) from error
    return YamlDocument(data, lines, repeated)


def _walk(
    node: yaml.Node, path: Path, lines: dict[Path, int], above: tuple[yaml.Node, ...]
) -> Iterator[Fault]:
    """Note the line of each path below a node and yield the keys that stand twice in one mapping."""
    lines.setdefault(path, node.start_mark.line + 1)
    if node in above:
        raise NotYamlError("a value contains itself", node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index), lines, (*above, node))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            if inner in lines:
                yield Fault(inner, f"occurs twice; first in line {lines[inner]}")
            lines[inner] = key.start_mark.line + 1
            yield from _walk(value, inner, lines, (*above, node))
