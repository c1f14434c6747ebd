"""How the pages are made from their templates."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from perfci import pages, wording
from perfci.markup import breakable
from perfci.report.model import TONES

STYLE, SCRIPT = "style.css", "pages.js"


def rendered(template: str, **values: object) -> str:
    """Return a page."""
    return _environment().get_template(template).render(**values)


def shared_files() -> dict[str, str]:
    """Return what all pages load, by name."""
    folder = files("perfci.report") / "templates"
    return {name: (folder / name).read_text(encoding="utf-8") for name in (STYLE, SCRIPT)}


@cache
def version() -> str:
    """Return a digest over all code that pages are made by: another one, and every page is made again."""
    digest = hashlib.sha256()
    folder = files("perfci.report")
    sources = [
        *sorted(folder.iterdir(), key=lambda one: one.name),
        *sorted((folder / "templates").iterdir(), key=lambda one: one.name),
        *(files("perfci") / name for name in ("pages.py", "wording.py", "markup.py", "projects.py")),
    ]
    for source in sources:
        if source.is_file() and source.name.endswith((".py", ".j2")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("perfci.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    environment.globals.update(pages=pages, wording=wording, tones=TONES, style=STYLE, script=SCRIPT)
    return environment
