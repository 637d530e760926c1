"""The trigger form: what an operator may choose for one run, with bounds and help."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from airflow.sdk import Param

from fruits.costs import read_prices
from fruits.settings import Market, Refit, Settings, SettingsError, load_settings

BACKBONES = ["MobileNetV2", "MobileNet", "MobileNetV3Large", "EfficientNetB0", "ResNet50"]


def ingestion_params(settings: Settings) -> dict[str, Param]:
    """Return the Params of the ingestion DAG; *settings* gives their defaults.

    A Param has the name of the setting that it overrides.
    """
    # A cluster needs some ten minutes before it takes its first step. Where the environment asks
    # for less, it knows why.
    shortest = max(min(10, settings.cap_minutes), settings.idle_minutes + 1)
    types = sorted(read_prices(settings.region).instances)
    return {
        "images_uri": Param(
            settings.images_uri,
            type="string",
            pattern="^s3://[^/]+(/.*)?$",
            title="Images",
            description="Bucket and prefix of the images to ingest: s3://bucket/prefix/.",
            section="What comes in",
        ),
        "max_images_per_run": Param(
            settings.max_images_per_run,
            type="integer",
            minimum=1,
            title="Most images",
            description="The oldest images come first; the rest waits for the next run, and so do "
            "those that are not expected to end within the longest life.",
            section="What comes in",
        ),
        "confirm_removals": Param(
            settings.confirm_removals,
            type="boolean",
            title="Confirm removals",
            description=f"Remove the rows of missing images even if they are more than "
            f"{settings.max_removed_share:.0%} of the rows under the prefix.",
            section="What comes in",
        ),
        "max_quarantine_share": Param(
            settings.max_quarantine_share,
            type="number",
            minimum=0,
            maximum=1,
            title="Most broken",
            description="A batch of which a larger share cannot be decoded fails before any of it "
            f"is committed: 0 to 1. {settings.quarantine_allowance} images never fail one.",
            section="What comes in",
        ),
        # These two are for one run: as a setting they would be for every night.
        "retry_quarantined": Param(
            False,
            type="boolean",
            title="Retry quarantined",
            description="Try the images in quarantine again: those under the prefix that have not "
            "changed.",
            section="What comes in",
        ),
        "reprocess": Param(
            None,
            type=["null", "string"],
            enum=[None, *sorted({settings.backbone, *BACKBONES})],
            values_display={"None": "No: the network of the tables"},
            title="Reprocess",
            description="Featurize every image with this Keras application, beside the current "
            "tables. Readers see nothing of it until fruits_switch_model switches. Repeat it "
            "while images are left.",
            section="Another network",
        ),
        "weights": Param(
            settings.weights,
            enum=sorted({settings.weights, "imagenet", "published"}),
            title="Weights",
            description="Of Reprocess, and of a lake's first batch: imagenet is what Keras "
            "downloads, published what make aws-publish has put into the lake.",
            section="Another network",
        ),
        "variance_target": Param(
            settings.variance_target,
            type="number",
            exclusiveMinimum=0,
            maximum=1,
            title="Variance target",
            description="Share of the total variance that the components keep: above 0, up to 1. "
            "Ignored when a number of components is given.",
            section="What is computed",
        ),
        "k": Param(
            settings.k,
            type=["null", "integer"],
            minimum=1,
            title="Components",
            description="How many, from 1; empty: as many as the variance target needs.",
            section="What is computed",
        ),
        "refit": Param(
            settings.refit.value,
            enum=[refit.value for refit in Refit],
            title="Fit PCA again",
            description="auto: when the current version no longer keeps the target of all images; "
            "else only new images are projected. always: every image gets new components. "
            "A run without new images fits nothing.",
            section="What is computed",
        ),
        "workers": Param(
            settings.workers,
            type="integer",
            minimum=1,
            maximum=50,
            title="Most workers",
            description="Nodes beside the primary: 1 to 50. A batch gets as many as are cheapest "
            "for its size.",
            section="The cluster",
        ),
        "worker_instance_type": Param(
            settings.worker_instance_type,
            enum=types,
            title="Worker type",
            description=f"EC2 type of the workers: what has a price in {settings.region}.",
            section="The cluster",
        ),
        "market": Param(
            settings.market.value,
            enum=[market.value for market in Market],
            title="Market",
            description="How the workers are bought. Spot is cheaper and can be taken away.",
            section="The cluster",
        ),
        "cap_minutes": Param(
            settings.cap_minutes,
            type="integer",
            minimum=shortest,
            maximum=1440,
            title="Longest life (minutes)",
            description=f"{shortest} to 1440. The cluster is ended after this "
            "time, whatever it is doing.",
            section="The cap",
        ),
        "cap_money": Param(
            settings.cap_money,
            type="number",
            exclusiveMinimum=0,
            maximum=settings.month_cap_money,
            title="Most money (USD)",
            description="No cluster is created that could cost more than this at the worst: above "
            f"0, up to the month's cap of {settings.month_cap_money:g}.",
            section="The cap",
        ),
    }


def run_settings(params: Mapping[str, Any]) -> Settings:
    """Return the settings of one run: the environment's, overridden by the run's *params*.

    Airflow takes more from whoever triggers than the form has; the month's cap, for one, is not
    theirs to raise. Raises SettingsError, one line that names what is wrong.
    """
    foreign = {name: f"{name!r} is no field of the form" for name in set(params) - _fields()}
    if foreign:
        raise SettingsError(
            f"What the run was triggered with is wrong: {'; '.join(sorted(foreign.values()))}.",
            "Leave it out of the run's conf: what the form does not have is set for all runs "
            "(docs/settings.md).",
            wrong=foreign,
        )
    return load_settings(**params)


@cache
def _fields() -> frozenset[str]:
    return frozenset(ingestion_params(Settings.model_construct()))
