"""Statistics of data files that the features table no longer has: sums that hold removed images.

The pca step removes them too, but a day that only removes images has no step.
"""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
from pyiceberg.catalog import Catalog
from pyiceberg.io import FileIO

from fruits.lake import open_table, scan_files
from fruits.objects import split_uri
from fruits.stored import Stored, delete_all, stored


def stale_statistics(catalog: Catalog, lake: str) -> list[Stored]:
    """Return the entries under `statistics/` of files that the features table has no longer.

    An entry is a NumPy archive whose member `about` names its data files. One that cannot be read
    is stale, too: it is a cache, and the next step makes it again.
    """
    entries = list(stored(f"{lake}/statistics/"))
    if not entries:
        return []
    features = open_table("features", catalog)
    committed = {file.file_path for file in scan_files(features)}
    return [one for one in entries if not _files_of(features.io, one) <= committed]


def forget_stale_statistics(catalog: Catalog, lake: str) -> int:
    """Delete them; return how many there were."""
    stale = stale_statistics(catalog, lake)
    delete_all(split_uri(lake)[0], [{"Key": split_uri(one.uri)[1]} for one in stale])
    return len(stale)


def _files_of(files: FileIO, entry: Stored) -> set[str]:
    try:
        # An archive of up to `file_io.SMALL` bytes is read whole: 0.3 GB for a million images.
        with files.new_input(entry.uri).open() as stream, zipfile.ZipFile(stream) as archive:
            about = np.load(io.BytesIO(archive.read("about.npy")), allow_pickle=False)
        return {file["uri"] for file in json.loads(about.tobytes())["files"]}
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile):
        return {""}
