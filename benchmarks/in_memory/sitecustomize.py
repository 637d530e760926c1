"""Every Python that finds this first reads images from one mapped file instead of from S3.

Python imports a module of this name when it starts, so that Spark's workers get it through
PYTHONPATH: the step itself stays as it is.
"""

import json
import mmap
import os
from pathlib import Path

if pack := os.environ.get("BENCH_PACK"):
    from fruits_jobs import fetching

    _index = json.loads(Path(f"{pack}.json").read_text())
    with Path(pack).open("rb") as _file:
        _bytes = mmap.mmap(_file.fileno(), 0, prot=mmap.PROT_READ)

    def _fetch(_self: object, uri: str, _etag: str, size: int) -> bytes:
        start = _index[uri]
        return _bytes[start : start + size]

    fetching.Fetcher.fetch = _fetch  # type: ignore[method-assign]
