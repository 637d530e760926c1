"""A Markdown template whose code is run: what it prints and returns becomes part of the page.

    ```python run         is shown, run, and followed by what it printed
    ```python hidden      is run; what it printed is Markdown of the page
    <!-- source: m:f -->  is replaced by the source of f in the module m

All code of a template shares one namespace, in the order of the page. Tools for this (Jupytext,
markdown-exec) bring a kernel or a site generator; missing was one that shows a function of the
repository as it is.
"""

from __future__ import annotations

import importlib
import inspect
import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SPECIAL = re.compile(
    r"^```python (?P<kind>run|hidden)\n(?P<code>.*?)^```\n"
    r"|^<!-- source: (?P<source>\S+) -->\n",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Piece:
    """Part of a template: *kind* is text, run, hidden or source; it begins at *line*."""

    kind: str
    content: str
    line: int


def pieces(template: str) -> Iterator[Piece]:
    """Yield the parts of *template* in their order."""
    end = 0
    for found in SPECIAL.finditer(template):
        line = template.count("\n", 0, found.start()) + 1
        yield Piece("text", template[end : found.start()], line)
        if found["kind"]:
            yield Piece(found["kind"], found["code"], line)
        else:
            yield Piece("source", found["source"], line)
        end = found.end()
    yield Piece("text", template[end:], template.count("\n") + 1)


def weave(template: Path, names: dict[str, Any]) -> str:
    """Return the page of *template*, whose code begins with *names*."""
    return "".join(_woven(piece, template, names) for piece in pieces(template.read_text()))


def skeleton(template: Path) -> re.Pattern[str]:
    """Return what every page of *template* matches, whatever its code printed."""
    parts = (_pattern(piece) for piece in pieces(template.read_text()))
    return re.compile("".join(parts), re.DOTALL)


def source(name: str) -> str:
    """Return the source of ``module:function`` as Markdown, with a link to its file."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    file = Path(inspect.getsourcefile(found) or "").relative_to(ROOT)
    code = inspect.cleandoc(f"\n{inspect.getsource(found)}")
    return f"[`{file}`](../{file})\n\n```python\n{code}\n```\n"


def _woven(piece: Piece, template: Path, names: dict[str, Any]) -> str:
    where = f"{template.name}, line {piece.line}"
    match piece.kind:
        case "run" | "hidden":
            printed = _printed(compile(piece.content, where, "exec"), names)
            if piece.kind == "hidden":
                return printed
            return _shown(piece) + (f"\n```text\n{printed}```\n" if printed else "")
        case "source":
            return source(piece.content)
    return piece.content


def _printed(code: Any, names: dict[str, Any]) -> str:
    output = io.StringIO()
    with redirect_stdout(output):
        exec(code, names)  # noqa: S102  (the template is ours)
    return output.getvalue()


def _shown(piece: Piece) -> str:
    return f"```python\n{piece.content}```\n"


def _pattern(piece: Piece) -> str:
    match piece.kind:
        case "run":
            return re.escape(_shown(piece)) + r"(?:\n```text\n.+?```\n)?"
        case "hidden":
            return ".*?"
        case "source":
            return re.escape(source(piece.content))
    return re.escape(piece.content)
