"""The documents as a reader meets them: headings to jump to, links to follow, code to copy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
MARKDOWN = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Page:
    """One Markdown file of the repository."""

    path: Path

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return str(self.path.relative_to(ROOT))

    @cached_property
    def tokens(self) -> list[Token]:
        """All of its tokens, those of paragraphs too, in order."""
        found: list[Token] = []
        for token in MARKDOWN.parse(self.path.read_text()):
            found += [token, *(token.children or [])]
        return found

    @property
    def code(self) -> Iterator[str]:
        """Yield what it shows as code, spans and blocks, without comments."""
        kinds = ("code_inline", "fence", "code_block")
        shown = (token.content for token in self.tokens if token.type in kinds)
        return (re.sub(r"(^|\s)#.*", "", content) for content in shown)

    @property
    def addresses(self) -> Iterator[str]:
        """Yield where its links and pictures point to, other hosts left out."""
        for token in self.tokens:
            address = token.attrs.get("href") or token.attrs.get("src")
            if address and not urlsplit(str(address)).scheme:
                yield str(address)

    @cached_property
    def anchors(self) -> set[str]:
        """The anchors that GitHub gives its headings."""
        seen: Counter[str] = Counter()
        found = set()
        for before, token in zip(self.tokens, self.tokens[1:], strict=False):
            if before.type == "heading_open":
                slug = anchor(token)
                found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
                seen[slug] += 1
        return found

    def target(self, address: str) -> tuple[Path, str]:
        """Return the file and the anchor ("" for none) that *address* means on this page."""
        parts = urlsplit(address)
        path = self.path.parent / unquote(parts.path) if parts.path else self.path
        return path.resolve(), parts.fragment


def anchor(heading: Token) -> str:
    """Return what GitHub makes of a heading: its text in lower case, hyphens for spaces."""
    kinds = ("text", "code_inline")
    text = "".join(child.content for child in heading.children or [] if child.type in kinds)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def all_pages() -> list[Page]:
    """Return every document: those at the top, and all under docs/."""
    return [Page(path) for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")))]
