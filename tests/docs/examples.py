"""The Python that a document shows, to be run as it stands there."""

from __future__ import annotations

import re
from typing import Any

from tests.docs.pages import ROOT


def examples(page: str) -> list[str]:
    """Return the Python blocks of docs/*page*, in order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def names_of(example: str) -> dict[str, Any]:
    """Return what *example* leaves behind when it is run."""
    names: dict[str, Any] = {}
    exec(example, names)
    return names
