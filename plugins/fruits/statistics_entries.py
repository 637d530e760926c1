"""Statistics of data files that the features table no longer has: sums that hold removed images.

The pca step removes them too, but a day that only removes images has no step.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import Any

import numpy as np
from pyiceberg.catalog import Catalog
from pyiceberg.io import FileIO

from fruits.lake import open_table, scan_files
from fruits.objects import split_uri
from fruits.stored import Stored, delete_all, stored

NONE_OF_OURS = {""}  # no file is called so: what names it is stale
DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error),
    RuntimeError,  # of an archive that says that it is encrypted, or packed in an unknown way
)


def stale_statistics(catalog: Catalog, lake: str) -> list[Stored]:
    """Return the entries under `statistics/` of files that the features table has no longer.

    An entry is a NumPy archive whose member `about` names its data files. One that is damaged is
    stale, too: it is a cache, and the next step makes it again. An S3 that fails is no damage.
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
    """Return the files that *entry* names: none of ours if it is damaged; OSError if S3 fails."""
    try:
        # An archive of up to `file_io.SMALL` bytes is read whole: 0.3 GB for a million images.
        opened = files.new_input(entry.uri).open()
    except FileNotFoundError:
        return NONE_OF_OURS
    with opened as stream:
        try:
            return _files_in(stream)
        except DAMAGED:
            # Either is said of both: zipfile calls it a bad file when S3 fails, and Arrow an
            # OSError when a damaged archive points beyond its own end. The bytes alone tell.
            stream.seek(0)
            content = io.BytesIO(stream.read())
    try:
        return _files_in(content)
    except DAMAGED:
        return NONE_OF_OURS


def _files_in(stream: Any) -> set[str]:
    with zipfile.ZipFile(stream) as archive:
        about = np.load(io.BytesIO(archive.read("about.npy")), allow_pickle=False)
    return {file["uri"] for file in json.loads(about.tobytes())["files"]}
