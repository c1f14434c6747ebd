"""JSON and YAML that others wrote: whatever is wrong with a text is a NotReadable, which is a ValueError.

The libraries let more through. Values that are nested without end are a RecursionError; a YAML tag that does
not fit its value (`!!timestamp soon`, `!!bool perhaps`) is whatever the code for that tag stumbles over. So
nothing of perfci calls them for reading: ruff knows (`banned-api` in pyproject.toml).
"""

from __future__ import annotations

import json
from typing import Any

TAG_ERRORS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What PyYAML raises, beside its own errors, where a value is not what its tag says."""


class NotReadable(ValueError):
    """A text is no JSON or YAML; the message says in one line what is wrong with it."""


def json_value(text: str | bytes) -> Any:
    """Return what a JSON text holds; bytes are UTF-8, UTF-16 or UTF-32. Raises NotReadable."""
    try:
        return json.loads(text)  # noqa: TID251 - here
    except RecursionError as error:
        raise NotReadable("nested too deeply") from error
    except ValueError as error:  # also bytes that are no text, and numbers of thousands of digits
        raise NotReadable(_line(error)) from error


def yaml_value(text: str) -> Any:
    """Return what a YAML document holds: plain values alone, whatever its tags say. Raises NotReadable."""
    import yaml

    try:
        return yaml.safe_load(text)  # noqa: TID251 - here
    except RecursionError as error:
        raise NotReadable("nested too deeply") from error
    except (yaml.YAMLError, *TAG_ERRORS) as error:
        raise NotReadable(_line(error)) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
