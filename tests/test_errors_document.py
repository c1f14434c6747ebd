"""Every error that a person can meet has a section in docs/errors.md, and no section is left over."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import perfci
from perfci.errors import PerfciError

DOCUMENT = Path(__file__).parents[1] / "docs" / "errors.md"
BASES = {"PerfciError", "UsageError", "LabError", "ServiceError", "ResultFileError"}
"""Never raised themselves."""


def errors(base=PerfciError):
    for one in base.__subclasses__():
        yield one
        yield from errors(one)


def test_every_error_has_its_section():
    for module in pkgutil.walk_packages(perfci.__path__, "perfci."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    known = {one.__name__ for one in errors() if one.__module__.startswith("perfci.")} - BASES
    told = set(re.findall(r"^## (\w+)$", DOCUMENT.read_text(), re.MULTILINE))
    assert sorted(known - told) == []
    assert sorted(told - known) == []
