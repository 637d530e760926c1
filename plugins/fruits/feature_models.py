"""The feature models that the tables hold side by side, and the one commit that switches.

    python -m fruits.feature_models          says which there are
    python -m fruits.feature_models NAME     lets readers and ordinary runs go by that one

Nothing is copied and nothing is deleted: a property of `features` changes, and with it what `read`
returns of features and of components. Switching back is the same.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from botocore.exceptions import BotoCoreError, ClientError
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.table import Table
from rich.markup import escape

from fruits import stories
from fruits.errors import FruitsError
from fruits.lake import (
    FEATURE_MODEL,
    PREVIOUS_FEATURE_MODEL,
    ensure_tables,
    equals,
    newest_version,
    open_catalog,
    open_table,
    scan_files,
)
from fruits.rewrites import SAME
from fruits.scratch import scratch
from fruits.swaps import Mark, Swap, commit_once
from fruits.terminal import Terminal
from fruits.versions import load_images
from fruits.weights import backbone_of

log = logging.getLogger(__name__)


class UnknownModelError(FruitsError):
    """There are no features of a feature model; fields: feature_model, known."""

    feature_model: str
    known: tuple[str, ...]


class IncompleteModelError(FruitsError):
    """A feature model lacks images; fields: feature_model, features, components (counts)."""

    feature_model: str
    features: int
    components: int


@dataclass(frozen=True)
class FeatureModel:
    """One feature model: its *images*, and its newest PCA version.

    *without_features* counts the images of the current feature model that it has no outcome for,
    *without_components* its own that its PCA version lacks. *previous* was current before.
    """

    name: str
    images: int
    model_version: str | None
    without_features: int
    without_components: int
    current: bool
    previous: bool

    @property
    def complete(self) -> bool:
        """Whether readers who are switched to it miss nothing."""
        return not (self.without_features or self.without_components)


@dataclass(frozen=True)
class Switched:
    """What was current *before* and is *after*, and the PCA version that comes with it."""

    before: str | None
    after: str
    model_version: str | None


def feature_models(catalog: Catalog) -> list[FeatureModel]:
    """Return the feature models that have rows, the current one first. Only keys are read."""
    features = open_table("features", catalog)
    images: Counter[str] = Counter()
    for file in scan_files(features):
        images[file.partition[0]] += file.record_count
    models = [_look_at(catalog, features, name, images[name]) for name in images]
    return sorted(models, key=lambda model: (not model.current, not model.previous, model.name))


def switch(catalog: Catalog, name: str, *, accept_missing: bool = False) -> Switched:
    """Make *name* the current feature model, in one commit; nothing happens if it is.

    Raises UnknownModelError if it has no rows, and IncompleteModelError if readers would miss
    images or components, unless that is accepted: the next ordinary run computes what is missing.
    """
    features = open_table("features", catalog)
    before = features.properties.get(FEATURE_MODEL)

    def plan(table: Table) -> Swap:
        # Looked at here, because another writer may have been first.
        nonlocal before
        before = table.properties.get(FEATURE_MODEL)
        _require(feature_models(catalog), name, accept_missing=accept_missing)
        if name == before:
            return Swap()
        return Swap(properties={FEATURE_MODEL: name, PREVIOUS_FEATURE_MODEL: before or ""})

    commit_once(features, Mark(name, "switch", datetime.now(UTC).isoformat()), plan)
    return Switched(before, name, newest_version(open_table("components", catalog), name))


def _require(models: list[FeatureModel], name: str, *, accept_missing: bool) -> None:
    found = next((model for model in models if model.name == name), None)
    if found is None:
        known = tuple(model.name for model in models)
        raise UnknownModelError(
            f"There are no features of {name!r}.",
            f"There are {', '.join(known)}. A run with Reprocess computes another one."
            if known
            else "Ingest some images first.",
            feature_model=name,
            known=known,
        )
    if not (found.complete or found.current or accept_missing):
        raise IncompleteModelError(
            f"Readers would miss something: of the current images, {found.without_features:,} have "
            f"no features of {name}, and {found.without_components:,} of its own no components.",
            f"Trigger a run with Reprocess = {backbone_of(name)}, as often as images are left. Or "
            "switch all the same ('Accept missing', --accept-missing): the next ordinary run "
            "computes them.",
            feature_model=name,
            features=found.without_features,
            components=found.without_components,
        )


def _look_at(catalog: Catalog, features: Table, name: str, images: int) -> FeatureModel:
    components = open_table("components", catalog)
    current = features.properties.get(FEATURE_MODEL)
    version = newest_version(components, name)
    with scratch() as space:
        load_images(space, "its", features, equals("feature_model", name))
        load_images(space, "projected", components, equals("model_version", version or ""))
        without_components, _ = space.examples(f"its ANTI JOIN projected {SAME}")
        without_features = 0
        if current and name != current:
            load_images(space, "read_now", features, equals("feature_model", current))
            load_images(space, "broken", open_table("quarantine", catalog), AlwaysTrue())
            known = f"read_now ANTI JOIN its {SAME}"
            without_features, _ = space.examples(f"(FROM {known}) ANTI JOIN broken {SAME}")
    return FeatureModel(
        name,
        images,
        version,
        without_features,
        without_components,
        current=name == current,
        previous=name == features.properties.get(PREVIOUS_FEATURE_MODEL) and name != current,
    )


def main(arguments: list[str] | None = None) -> int:
    """List the feature models, or switch; 0, or 1 with what is wrong and the way out."""
    parser = argparse.ArgumentParser(
        prog="python -m fruits.feature_models",
        description=__doc__,
        epilog="The tables are those of PyIceberg's catalog `fruits`, credentials come from where "
        "boto3 looks for them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the feature model to switch to")
    parser.add_argument(
        "--accept-missing", action="store_true", help="switch although it lacks images"
    )
    options = parser.parse_args(arguments)
    terminal = Terminal()
    terminal.show_warnings()
    try:
        catalog = open_catalog()
        ensure_tables(catalog)
        if options.name:
            done = switch(catalog, options.name, accept_missing=options.accept_missing)
            terminal.say(escape(stories.switched(asdict(done))))
        models = feature_models(catalog)
        for model in models:
            terminal.say(escape(stories.feature_model(asdict(model))))
        if not models:
            terminal.say("There is no feature model yet: the first batch brings one")
    except (FruitsError, BotoCoreError, ClientError) as error:
        terminal.say(f"[bold red]{type(error).__name__}[/bold red] {escape(str(error))}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
