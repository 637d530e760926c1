"""Pages as HTML: Jinja templates in which everything is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fruits.wording import count, data_size, duration, money, plural, share, visible, when

TEMPLATES = Path(__file__).with_name("templates")


def render_template(name: str, values: Mapping[str, Any]) -> str:
    """Return the template *name* filled with *values*; an unknown name in it is an error."""
    return _environment().get_template(name).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (visible, count, money, share, duration, data_size, when, plural)
    environment.filters |= {word.__name__: word for word in words}
    return environment
