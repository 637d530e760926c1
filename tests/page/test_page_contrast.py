"""Colours that can be told apart: WCAG 2.2's AA for text and for what is drawn, light and dark."""

from __future__ import annotations

import re

import pytest

from fruits.rendering import TEMPLATES

TEXT = ("fg", "muted", "link", "good", "warn", "bad")
DRAWN = ("fill", "open", "bad", *(f"hue-{number}" for number in range(8)))


def palette(theme: str) -> dict[str, str]:
    """Return the colours of a theme by their names."""
    style = (TEMPLATES / "style.css.jinja").read_text()
    (macro,) = re.findall(rf"macro {theme}\(\).*?endmacro", style, re.DOTALL)
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", macro))


def luminance(colour: str) -> float:
    """Return the relative luminance, as WCAG defines it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("names", "grounds", "least"),
    [(TEXT, ("page", "card"), 4.5), (DRAWN, ("card", "track"), 3.0)],
)
def test_nothing_fades_into_its_ground(
    theme: str, names: tuple[str, ...], grounds: tuple[str, ...], least: float
) -> None:
    """Text has 4.5 : 1 on page and card, bars and dots 3 : 1 on card and track."""
    colours = palette(theme)

    for name in names:
        for ground in grounds:
            assert contrast(colours[name], colours[ground]) >= least, (name, ground)
