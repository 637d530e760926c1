"""Reading a few images ahead of inference, in order and within a limit of bytes, not of images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    load: Callable[[Item], Result],
    items: Iterable[Item],
    size: Callable[[Item], int],
    readers: int,
    limit: int,
) -> Iterator[Result]:
    """Yield ``load(item)`` for each item in order, loaded by *readers* threads.

    The items under way or waiting to be taken have together at most *limit* bytes, as *size* tells;
    an item larger than that is loaded alone. The first error ends the iteration and is raised.
    """
    waiting: deque[tuple[Future[Result], int]] = deque()
    held = 0
    pool = ThreadPoolExecutor(readers, thread_name_prefix="reader")
    try:
        for item in items:
            cost = size(item)
            while waiting and held + cost > limit:
                future, freed = waiting.popleft()
                yield future.result()
                held -= freed
            waiting.append((pool.submit(load, item), cost))
            held += cost
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        # On an error nobody wants what was ordered; what is being read ends on its own.
        pool.shutdown(wait=True, cancel_futures=True)
