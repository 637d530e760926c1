"""Draws fruit-like images, so that everything can be tried without a data set."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIZE = 100  # pixels, as Fruits-360
_SCALE = 4  # drawn larger and reduced: smooth edges

Colour = tuple[int, int, int]
Outline = Callable[[float], float]

# label: colour, and the radius (share of the fruit's size) in the direction of an angle
_FRUITS: dict[str, tuple[Colour, Outline]] = {
    "Apple": ((200, 30, 40), lambda a: 0.95 - 0.12 * math.cos(a + math.pi / 2) ** 8),
    "Banana": ((235, 205, 60), lambda a: 0.35 + 0.65 * abs(math.cos(a)) ** 1.5),
    "Lime": ((90, 170, 50), lambda a: 0.7 + 0.25 * abs(math.cos(a)) ** 6),
    "Plum": ((90, 40, 110), lambda a: 0.85 + 0.08 * math.sin(a)),
    "Strawberry": ((220, 40, 70), lambda a: 0.75 + 0.25 * math.sin(a)),
}


def draw_samples(folder: Path, labels: int = 5, images: int = 5) -> int:
    """Draw *images* JPEGs for each of *labels* fruits and return how many were written.

    The same call draws the same bytes. Where a file exists already it is kept; ValueError for more
    labels than there are fruits to draw.
    """
    if not 1 <= labels <= len(_FRUITS):
        raise ValueError(f"labels must be between 1 and {len(_FRUITS)}, not {labels}")
    if images < 1:
        raise ValueError(f"images must be at least 1, not {images}")
    missing = [
        (label, number, path)
        for label, number, path in _wanted(folder, labels, images)
        if not path.exists()
    ]
    for label, number, path in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draw(label, number).save(draft, "JPEG", quality=90)
        draft.replace(path)
    return len(missing)


def draw(label: str, number: int) -> Image.Image:
    """Return image *number* of *label*: SIZE x SIZE RGB, the fruit on white."""
    chance = random.Random(f"{label}/{number}")  # noqa: S311  (a seed for shapes)
    colour, outline = _FRUITS[label]
    side = SIZE * _SCALE
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)
    fruit = _outline(outline, side, chance)
    pen.polygon(fruit, fill=_vary(colour, chance, 18))
    light = chance.uniform(0.30, 0.42) * side
    glow = chance.uniform(0.05, 0.09) * side
    pen.ellipse((light - glow, light - glow, light + glow, light + glow), fill=_lighter(colour))
    for _ in range(12 if label == "Strawberry" else 3):
        x, y = (side * chance.uniform(0.35, 0.65) for _ in range(2))
        pen.ellipse(
            (x, y, x + side * 0.02, y + side * 0.02), fill=_vary((240, 220, 140), chance, 15)
        )
    pen.line(
        (side / 2, side * 0.22, side / 2 + chance.uniform(-20, 20), side * 0.08), (90, 60, 30), 8
    )
    return picture.filter(ImageFilter.GaussianBlur(2)).resize((SIZE, SIZE))


def _wanted(folder: Path, labels: int, images: int) -> Iterator[tuple[str, int, Path]]:
    for label in sorted(_FRUITS)[:labels]:
        for number in range(images):
            yield label, number, folder / label / f"{number}_100.jpg"


def _outline(outline: Outline, side: int, chance: random.Random) -> list[tuple[float, float]]:
    size = side * chance.uniform(0.34, 0.42)
    turn = chance.uniform(-0.5, 0.5)
    stretch = chance.uniform(0.9, 1.1)
    points = []
    for degree in range(0, 360, 3):
        angle = math.radians(degree)
        radius = size * outline(angle) * (1 + chance.uniform(-0.01, 0.01))
        x, y = stretch * radius * math.cos(angle + turn), radius * math.sin(angle + turn)
        points.append((side / 2 + x, side * 0.55 - y))
    return points


def _vary(colour: Colour, chance: random.Random, by: int) -> Colour:
    red, green, blue = (min(max(c + chance.randint(-by, by), 0), 255) for c in colour)
    return red, green, blue


def _lighter(colour: Colour) -> Colour:
    red, green, blue = ((c + 2 * 255) // 3 for c in colour)
    return red, green, blue
