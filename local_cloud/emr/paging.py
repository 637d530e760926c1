"""Pages of EMR's lists; a marker names the last item shown, so new items do not shift a page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import TypeVar

from local_cloud.emr.errors import InvalidRequestError

PAGE = 50  # what ListClusters and ListSteps return at most

Item = TypeVar("Item")


def page(
    items: Sequence[Item],
    identify: Callable[[Item], str],
    marker: str | None,
    keep: Callable[[Item], bool] = lambda _: True,
    size: int = PAGE,
) -> tuple[list[Item], str | None]:
    """Return up to *size* items after *marker* that *keep* allows, and the next page's marker.

    The marker is looked up among all items, because the one it names may have changed its state
    since. The next marker is None on the last page; an unknown one is an InvalidRequestError.
    """
    begin = 0 if marker is None else 1 + _position([identify(item) for item in items], marker)
    kept = [item for item in items[begin:] if keep(item)]
    more = len(kept) > size
    return kept[:size], _encode(identify(kept[size - 1])) if more else None


def _encode(identifier: str) -> str:
    return base64.urlsafe_b64encode(identifier.encode()).decode()


def _position(identifiers: list[str], marker: str) -> int:
    for index, identifier in enumerate(identifiers):
        if _encode(identifier) == marker:
            return index
    raise InvalidRequestError(f"Marker {marker!r} is not valid.")
