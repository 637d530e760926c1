"""One entry of the statistics cache as bytes: it names what it is of, and betrays any damage."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from fruits_jobs.data_files import DataFile
from fruits_jobs.statistics import Statistics, Vector

FORMAT = 1


class BadEntry(ValueError):  # noqa: N818
    """An entry is damaged, or of other content than the files have now: *why* says which."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def entry_bytes(statistics: Statistics, files: tuple[DataFile, ...]) -> bytes:
    """Return the entry of the statistics of all rows of *files*.

    It is a NumPy archive, whose members have checksums: *about* (JSON: the format, and each file's
    uri, rows, bytes and etag), total, low and high [D], and the upper triangle of the scatter
    matrix, row by row, [D(D + 1)/2]: 6.6 MB for 1280 features.
    """
    about = json.dumps({"format": FORMAT, "files": [asdict(file) for file in files]})
    buffer = io.BytesIO()
    np.savez(
        buffer,
        about=np.frombuffer(about.encode(), np.uint8),
        total=statistics.total,
        low=statistics.low,
        high=statistics.high,
        triangle=statistics.triangle(),
    )
    return buffer.getvalue()


def read_entry(data: bytes, files: tuple[DataFile, ...]) -> Statistics:
    """Return the statistics of *files* that an entry holds; BadEntry if they are not theirs."""
    try:
        with np.load(io.BytesIO(data)) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays["about"].tobytes())
        names = ("total", "triangle", "low", "high")
        vectors = [_vector(arrays[name]) for name in names]
        statistics = Statistics.of_triangle(sum(file.rows for file in files), *vectors)
    # RuntimeError: of an archive that says that it is encrypted, or packed in an unknown way.
    except (ValueError, KeyError, EOFError, OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise BadEntry(f"it is damaged ({type(error).__name__})") from error
    if about != {"format": FORMAT, "files": [asdict(file) for file in files]}:
        raise BadEntry("it is of other content than the data files have now")
    return statistics


def _vector(array: npt.NDArray[np.float64]) -> Vector:
    if array.dtype != np.float64 or array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError("not a vector of finite float64")
    return array
