"""What older PCA versions leave: their model folders go once no components are read by them."""

from __future__ import annotations

import logging
from collections import defaultdict

from pyiceberg.catalog import Catalog

from fruits.lake import open_table
from fruits.objects import delete, list_uris
from fruits.versions import retired_versions

log = logging.getLogger(__name__)


def remove_retired_models(catalog: Catalog, models: str) -> list[str]:
    """Remove the folders, under the URI *models*, of versions whose rows a commit took out.

    Returns their versions. It is safe to repeat, and a call that a crash cut short is made up for
    by the next. Folders of versions that were never committed are left: a step may be writing one.
    """
    retired = set(retired_versions(open_table("components", catalog)))
    folders = defaultdict(list)
    for uri in list_uris(f"{models}/"):
        folders[uri.removeprefix(f"{models}/").partition("/")[0]].append(uri)
    removed = sorted(retired & folders.keys())
    for version in removed:
        # The description first: what is left of a folder without it is no model to anybody.
        for uri in sorted(folders[version], key=lambda uri: not uri.endswith("/model.json")):
            delete(uri)
        log.info("Removed the model of %s: its components are not kept any more", version)
    return removed
