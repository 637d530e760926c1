"""What is listed in one go: a folder or, where folders are many, a span of them in S3's order.

A folder for each crate or upload may be a hundred thousand of them: a request for each would cost
more than to list all keys, which is one request for a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ALONE = 256
SHARE = 64


class UnsortedError(Exception):
    """The bucket does not list its keys in the order of their UTF-8 bytes, as S3 promises."""


@dataclass(frozen=True)
class Span:
    """The keys that begin with *prefix*: all, or those of its folders after one cut up to another.

    A cut is the least string after all keys of a folder: of `Apple/` it is `Apple0`. It does not
    end in a slash, which obstore would drop.
    """

    prefix: str
    after: str = ""
    until: str = ""

    @property
    def name(self) -> str:
        """What tells it from the other spans of its listing."""
        return self.after or self.prefix


def spans(prefix: str, folders: Iterable[str]) -> Iterator[Span]:
    """Yield what has all keys in *folders*, which are right under *prefix* and come in order.

    The first 256 are listed alone. Later spans grow with the folders before them, each by a 64th:
    so even millions make a few hundred spans, none of which is long beside the others, and their
    names need not be kept. UnsortedError if *folders* are in another order.
    """
    after, open_folders = "", 0
    for number, folder in enumerate(folders):
        cut = f"{folder.removesuffix('/')}0"
        if cut <= after:
            raise UnsortedError(f"folder {folder!r} comes too late")
        open_folders += 1
        if number < ALONE:
            yield Span(folder)
        elif open_folders >= number // SHARE:
            yield Span(prefix, after, cut)
        else:
            last = cut
            continue
        after, open_folders = cut, 0
    if open_folders:
        yield Span(prefix, after, last)
