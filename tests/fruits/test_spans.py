"""Spans: few, of like size, and each key in exactly one, whatever the folders are called."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fruits.spans import ALONE, SHARE, Span, UnsortedError, spans

# What is near the slash in the order of bytes, what is long in UTF-8, and what is not a letter.
NAMES = st.text(" !-./01:AZa~é日\uffee😀\n%=+", min_size=1, max_size=4)


def has(span: Span, key: str) -> bool:
    """Say whether *key* is to be listed with *span*, as S3 compares keys."""
    after, until, begin, raw = (
        text.encode() for text in (span.after, span.until, span.prefix, key)
    )
    return raw.startswith(begin) and raw > after and (not until or raw < until)


def folders_of(prefix: str, keys: set[str]) -> list[str]:
    """Return the common prefixes of *keys* under *prefix*, in S3's order."""
    rests = [key[len(prefix) :] for key in keys if key.startswith(prefix)]
    found = {f"{prefix}{rest.partition('/')[0]}/" for rest in rests if "/" in rest}
    return sorted(found, key=str.encode)


@given(st.sets(NAMES, max_size=30), st.sampled_from(["", "A", "A/", "/", "é"]), st.booleans())
def test_a_key_in_a_folder_is_in_one_span(names: set[str], prefix: str, many: bool) -> None:
    """Spans hold every key of the folders under the prefix, none twice."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fruits.spans.ALONE", 1 if many else ALONE)
        patched.setattr("fruits.spans.SHARE", 2)
        keys = {f"{prefix}{name}" for name in names} | names
        folders = folders_of(prefix, keys)

        found = list(spans(prefix, folders))

    inside = {key for key in keys if any(key.startswith(folder) for folder in folders)}
    assert {key: sum(has(span, key) for span in found) for key in inside} == dict.fromkeys(
        inside, 1
    )
    assert len({span.name for span in found}) == len(found)


def test_a_few_folders_are_listed_alone() -> None:
    """A folder of its own is a prefix of its own: no more is listed than what is in it."""
    folders = [f"p/{number:03}/" for number in range(ALONE)]

    assert list(spans("p/", folders)) == [Span(folder) for folder in folders]


def test_many_folders_are_few_spans() -> None:
    """A hundred thousand folders are some hundred spans, the longest a 64th of them at the most."""
    folders = [f"p/{number:06}/" for number in range(100_000)]

    found = list(spans("p/", folders))

    cuts = [int(span.until[2:8]) for span in found if span.until]
    assert len(found) < 700
    assert max(b - a for a, b in pairwise(cuts)) <= len(folders) // SHARE
    assert cuts[-1] == len(folders) - 1


def test_folders_that_come_in_no_order_are_refused() -> None:
    """A span between two of them would not hold what lies between them."""
    with pytest.raises(UnsortedError, match="'b/' comes too late"):
        list(spans("", ["a/", "c/", "b/"]))
