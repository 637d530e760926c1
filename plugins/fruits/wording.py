"""How numbers, times and other people's text are worded, in pages and in logs alike.

Keys, labels and messages come from whoever fills the bucket: they may hold line breaks, or
characters that turn the direction of the text.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

NOTHING = "\N{EN DASH}"
# Control, format, surrogate, private and unassigned characters, line and paragraph separators.
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str | None) -> str:
    """Return *text* with every character that would not be seen written as its escape."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in HIDDEN else char
        for char in text or ""
    )


def count(number: float | None) -> str:
    """Return a whole number with its thousands apart; a dash for none."""
    return NOTHING if number is None else f"{number:,.0f}"


def money(amount: float | None, currency: str | None = None) -> str:
    """Return an amount to the cent; ``not known yet`` for none."""
    if amount is None:
        return "not known yet"
    return f"{amount:,.2f}{f' {currency}' if currency else ''}"


def share(part: float | None) -> str:
    """Return a share as per cent; a dash for none."""
    return NOTHING if part is None else f"{part:.1%}"


def duration(length: float | timedelta | None) -> str:
    """Return seconds as people say them: ``48 s``, ``3 min 20 s``, ``2 h 05 min``, ``4 days``."""
    if length is None:
        return NOTHING
    seconds = round(length.total_seconds() if isinstance(length, timedelta) else length)
    seconds = max(seconds, 0)  # two machines' clocks were compared
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if minutes < 10 and seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def data_size(size: float | None) -> str:
    """Return bytes in the unit that leaves few digits."""
    value = float(size or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def when(moment: datetime | None) -> str:
    """Return a moment as ``21 Nov 2026, 03:00 UTC``; a dash for none."""
    return f"{moment.astimezone(UTC):%-d %b %Y, %H:%M} UTC" if moment else NOTHING


def plural(number: float, one: str, many: str | None = None) -> str:
    """Return the number with its noun: ``1 image``, ``1,960 images``."""
    return f"{count(number)} {one if number == 1 else many or f'{one}s'}"
