"""The pages' colours can be told from what is behind them, in light, dark and print, and are never alone."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

STYLE = (files("perfci.report") / "templates" / "style.css").read_text(encoding="utf-8")
TEXT, GRAPHICS = 4.5, 3.0
"""What WCAG 2.2 asks for: contrast of text (1.4.3), and of what a picture's lines must be seen by (1.4.11)."""
TONES = ("bad", "good", "lab", "quiet")
LINES = ("plain", "bad", "good", "lab", "soft", "link", "line-4", "line-5")


def block(after):
    """Return the rules of the first `:root` after some text."""
    text = STYLE[STYLE.index(after) :]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", text[text.index(":root") : text.index("}")]))


LIGHT = block(":root")
SCHEMES = {
    "light": LIGHT,
    "dark": LIGHT | block("prefers-color-scheme: dark"),
    "print": LIGHT | block("@media print"),
}


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_and_lines_stand_out(scheme):
    colours = SCHEMES[scheme]
    pairs = [(text, back, TEXT) for text in ("text", "soft", "link", *TONES) for back in ("page", "card")]
    pairs += [(tone, f"{tone}-back", TEXT) for tone in TONES]
    pairs += [("log-text", "log", TEXT)]
    pairs += [(line, "card", GRAPHICS) for line in LINES]
    faint = [
        (one, other, round(found, 2))
        for one, other, least in pairs
        if (found := contrast(colours[one], colours[other])) < least
    ]
    assert faint == []


def test_what_is_printed_is_not_in_the_colours_of_a_dark_screen():
    assert "@media screen and (prefers-color-scheme: dark)" in STYLE
    assert STYLE.count("prefers-color-scheme") == 1


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("svg .dots", "svg .dots.bad", "stroke-linecap"),
        ("svg .share.old", "svg .share.new", "stroke-dasharray"),
        ("svg .env path", "svg .change path", "stroke-dasharray"),
        (".stages span", ".stages span.failed", "background"),
    ],
)
def test_what_differs_in_colour_differs_in_form_too(one, other, what):
    def rule(name):
        found = re.search(rf"(?m)^(?:[^{{}}\n]*, )?{re.escape(name)}(?:, [^{{}}]*)? {{([^}}]*)}}", STYLE)
        assert found, name
        return re.search(rf"{what}: ([^;]+);", found[1])

    old, new = (found and found[1] for found in (rule(one), rule(other)))
    assert old != new
    if what == "background":
        assert "gradient" in new
