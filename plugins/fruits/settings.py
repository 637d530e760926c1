"""One frozen settings object: a wrong value fails before a cluster costs money."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fruits.costs import UnknownPriceError, read_prices
from fruits.errors import FruitsError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

log = logging.getLogger(__name__)

GUARDED = ("region", "lake_uri")  # what the watchdog cannot do without
# Regions of AWS whose data centres stand in the European Union: London (eu-west-2) and Zurich
# (eu-central-2) do not.
EU_REGIONS = {
    "eu-central-1": "Frankfurt",
    "eu-north-1": "Stockholm",
    "eu-south-1": "Milan",
    "eu-south-2": "Spain",
    "eu-west-1": "Ireland",
    "eu-west-3": "Paris",
}


class Engine(StrEnum):
    """What runs the network; both give the same features within 1e-4 (docs/decisions/0018)."""

    LITERT = "litert"
    TENSORFLOW = "tensorflow"


class Scaler(StrEnum):
    """How features are scaled before PCA."""

    NONE = "none"
    STANDARD = "standard"
    MINMAX = "minmax"


class Refit(StrEnum):
    """When PCA is fitted again; the first features of a feature model are fitted in any case."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Market(StrEnum):
    """How worker nodes are bought; the primary node is always on demand."""

    ON_DEMAND = "ON_DEMAND"
    SPOT = "SPOT"


def _s3_uri(value: str) -> str:
    if not value.startswith("s3://") or not value.removeprefix("s3://").split("/")[0]:
        raise ValueError(f"{value!r} is not an S3 URI such as s3://bucket/prefix/")
    return value


def _eu_region(value: str) -> str:
    if value not in EU_REGIONS:
        known = ", ".join(f"{region} ({city})" for region, city in EU_REGIONS.items())
        raise ValueError(f"{value!r} is not in the European Union; choose one of {known}")
    return value


class SettingsError(FruitsError):
    """Settings are wrong; field: wrong, which has what is the matter by each setting's name."""

    wrong: dict[str, str]


# Each look at a cluster renews its lease: one that fails or comes late must not end the cluster.
POLLS_PER_LEASE = 3
# A cluster is idle from the end of a step to the look that sees it, and while that is committed.
POLLS_PER_IDLE = 3

BACKBONE = r"^[A-Z]\w+$"
S3Uri = Annotated[str, AfterValidator(_s3_uri)]
Share = Annotated[float, Field(ge=0, le=1)]
# FRUITS_NAME= in a file of settings.
MayBeEmpty = BeforeValidator(lambda value: None if value == "" else value)


class Settings(BaseSettings):
    """What a run needs to know. Each field can be set by the environment: FRUITS_<NAME>.

    Raises pydantic.ValidationError; `load_settings` says the same in one line.
    """

    # An infinite cap would be none.
    model_config = SettingsConfigDict(
        env_prefix="FRUITS_", frozen=True, extra="forbid", allow_inf_nan=False
    )

    # Where.
    images_uri: S3Uri = Field("s3://fruits-images/", description="Bucket and prefix of the images.")
    lake_uri: S3Uri = Field(
        "s3://fruits-lake", description="Bucket that the package writes to, or a folder of one."
    )
    region: Annotated[str, AfterValidator(_eu_region)] = Field(
        "eu-west-3", description="AWS region of buckets and cluster; the EU only."
    )
    cache_folder: Path = Field(
        Path.home() / ".cache" / "fruits",
        description="Folder of this machine for made-up weights, weights that were fetched from "
        "the lake, and what is known of weights: hash, feature model.",
    )

    # What is computed.
    backbone: str = Field(
        "MobileNetV2",
        pattern=BACKBONE,
        description="Keras application of a lake's first batch; later the tables say which.",
    )
    weights: str = Field(
        "imagenet",
        min_length=1,
        description="A weights file of the backbone without its head, or imagenet (Keras' own), "
        "published (by make aws-publish), seeded (made up), or auto: imagenet where it can be had, "
        "else seeded; for trials only.",
    )
    reprocess: Annotated[str | None, MayBeEmpty] = Field(
        None,
        pattern=BACKBONE,
        description="For one run from a shell (in Airflow the form alone): featurize every image "
        "with this Keras application, beside the current tables (docs/reprocess.md).",
    )
    retry_quarantined: bool = Field(
        False,
        description="For one run from a shell (in Airflow the form alone): try the images in "
        "quarantine again.",
    )
    engine: Engine = Field(Engine.LITERT, description="What runs the network.")
    k: Annotated[int | None, MayBeEmpty] = Field(
        None, ge=1, description="Number of components; empty: chosen by the variance target."
    )
    variance_target: float = Field(
        0.95, gt=0, le=1, description="Share of the total variance that the components keep."
    )
    max_components: int = Field(
        512, ge=1, description="The most components that the variance target may choose."
    )
    scaler: Scaler = Field(Scaler.NONE, description="How features are scaled before PCA.")
    refit: Refit = Field(
        Refit.AUTO,
        description="When PCA is fitted again and every image projected again: auto, when the "
        "current version no longer keeps the target of all images; always; or never.",
    )
    keep_model_versions: int = Field(
        2,
        ge=1,
        description="PCA model versions, of each feature model, whose components stay in the table "
        "and whose models stay in the lake; older ones are removed when a new one is committed.",
    )

    # Guards of the data.
    max_images_per_run: int = Field(
        1_000_000,
        ge=1,
        description="The most images of one batch, the oldest first; fewer where so many are not "
        "expected to end within FRUITS_CAP_MINUTES.",
    )
    max_quarantine_share: Share = Field(
        0.05,
        description="A batch with a larger share of undecodable images fails, if they are "
        "more than FRUITS_QUARANTINE_ALLOWANCE.",
    )
    quarantine_allowance: int = Field(
        5, ge=0, description="So many undecodable images never fail a batch, whatever their share."
    )
    max_removed_share: Share = Field(
        0.10, description="Removing a larger share of the rows under the prefix needs confirming."
    )
    confirm_removals: bool = Field(
        False, description="Remove the rows of missing images, however many."
    )
    rewrite_megabytes: int = Field(
        256,
        ge=0,
        description="Where replaced images have rows in so many MB of data files, Spark replaces "
        "these files, not the commit.",
    )

    retention_days: int = Field(
        7,
        ge=2,
        le=365,
        description="After these days what was removed is gone for good, and with it older "
        "snapshots of the tables, manifests, staging, logs and reports.",
    )

    # The cluster.
    release_label: str = Field(
        "emr-spark-8.1.0",
        pattern=r"^emr-(7\.\d+|spark-8\.[01])\.\d+$",
        description="EMR release with Spark 3.5 to 4.1 and Python 3.11: emr-7.13.0, "
        "emr-spark-8.0.0, emr-spark-8.1.0.",
    )
    primary_instance_type: str = Field("m6i.xlarge", description="EC2 type of the primary node.")
    worker_instance_type: str = Field("c6i.2xlarge", description="EC2 type of the worker nodes.")
    workers: int = Field(
        2, ge=1, le=50, description="The most worker nodes; a batch gets what it needs."
    )
    market: Market = Field(Market.ON_DEMAND, description="How the worker nodes are bought.")
    cap_minutes: int = Field(
        120,
        ge=1,
        le=24 * 60,
        description="The longest that a cluster may live, in minutes; a batch is cut to what is "
        "expected to end in three quarters of it.",
    )
    cap_money: float = Field(
        5.0, gt=0, description="The most that one cluster may cost at the worst, in USD."
    )
    month_cap_money: float = Field(
        100.0,
        gt=0,
        description="The most that the clusters of one calendar month may cost, in USD.",
    )
    prices_max_age_days: int = Field(
        730, ge=1, description="An older price table is refused: caps are only as good as prices."
    )
    idle_minutes: int = Field(
        10, ge=1, le=120, description="A cluster without a step ends itself after these minutes."
    )
    subnet_id: str | None = Field(None, description="Subnet of the cluster; empty: the default.")
    primary_security_group: str | None = Field(
        None, description="Security group of the primary node; all three groups or none."
    )
    worker_security_group: str | None = Field(
        None, description="Security group of the worker nodes."
    )
    service_security_group: str | None = Field(
        None, description="Security group by which EMR reaches nodes in a private subnet."
    )
    security_configuration: str | None = Field(
        None, description="EMR security configuration: encryption at rest and in transit."
    )
    log_key: str | None = Field(
        None,
        pattern=r"^(arn:[\w-]+:kms:[\w-]+:\d{12}:key/[\w-]+)?$",
        description="ARN of the KMS key for the clusters' logs; empty: the bucket's default.",
    )
    service_role: str = Field("EMR_DefaultRole_V2", description="Role of the EMR service.")
    instance_profile: str = Field("EMR_EC2_DefaultRole", description="Role of the nodes.")
    alert_topic: str | None = Field(
        None,
        pattern=r"^(arn:[\w-]+:sns:[\w-]+:\d{12}:[\w-]+)?$",
        description="ARN of the SNS topic of the region that is told of red runs, failed looks of "
        "the watchdog, failed nights of the retention, and clusters that had to be ended; empty: "
        "nobody is told.",
    )
    ready_minutes: float = Field(
        30, gt=0, le=24 * 60, description="How long a run waits for its cluster to take steps."
    )
    lease_minutes: float = Field(
        30, gt=0, le=240, description="A cluster that no task wants for these minutes is ended."
    )
    sense_minutes: int = Field(
        120,
        ge=0,
        le=1380,
        description="How long a scheduled run waits for a change, in minutes, and any run for "
        "another that is at work.",
    )
    poll_seconds: float = Field(
        60,
        gt=0,
        le=600,
        description="Pause between two looks at a cluster or step, in seconds; "
        "ten times that, at most 10 minutes, between two looks for changes.",
    )
    node_python: str = Field(
        "/opt/fruits/python/bin/python", description="Python of the nodes, as they see it."
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if problems := "; ".join(self._contradictions()):
            raise ValueError(problems)
        return self

    def _contradictions(self) -> Iterator[str]:
        if self.idle_minutes >= self.cap_minutes:
            yield (
                f"FRUITS_IDLE_MINUTES ({self.idle_minutes}) must be below FRUITS_CAP_MINUTES "
                f"({self.cap_minutes}), or it would never end a cluster"
            )
        if self.lease_minutes * 60 < POLLS_PER_LEASE * self.poll_seconds:
            yield (
                f"FRUITS_LEASE_MINUTES ({self.lease_minutes:g}) must be at least "
                f"{POLLS_PER_LEASE * self.poll_seconds / 60:g}: {POLLS_PER_LEASE} times "
                f"FRUITS_POLL_SECONDS ({self.poll_seconds:g} s), or a wanted cluster would be ended"
            )
        if self.idle_minutes * 60 < POLLS_PER_IDLE * self.poll_seconds:
            yield (
                f"FRUITS_IDLE_MINUTES ({self.idle_minutes}) must be at least "
                f"{POLLS_PER_IDLE * self.poll_seconds / 60:g}: {POLLS_PER_IDLE} times "
                f"FRUITS_POLL_SECONDS ({self.poll_seconds:g} s), or the cluster would end itself "
                "between two steps"
            )
        # A prefix need not end at a slash, the name of a bucket does.
        images = self.images_uri + "/" * (self.images_uri.count("/") == 2)
        if f"{self.lake}/".startswith(images) or images.startswith(f"{self.lake}/"):
            yield (
                f"FRUITS_LAKE_URI ({self.lake_uri}) and FRUITS_IMAGES_URI ({self.images_uri}) must "
                "not hold each other, or the lake's plots would be taken for photographs"
            )
        if self.cap_money > self.month_cap_money:
            yield (
                f"FRUITS_CAP_MONEY ({self.cap_money:g}) must be at most FRUITS_MONTH_CAP_MONEY "
                f"({self.month_cap_money:g}), the cap of the whole month"
            )
        # arn:aws:sns:<region>:<account>:<name>; the region is in the EU, and so the topic is, too.
        if self.alert_topic and self.alert_topic.split(":")[3] != self.region:
            yield (
                f"FRUITS_ALERT_TOPIC ({self.alert_topic}) must be a topic of FRUITS_REGION "
                f"({self.region}), where the roles may publish"
            )
        groups = [
            self.primary_security_group,
            self.worker_security_group,
            self.service_security_group,
        ]
        if any(groups) and not (all(groups) and self.subnet_id):
            yield (
                "FRUITS_PRIMARY_SECURITY_GROUP, FRUITS_WORKER_SECURITY_GROUP, "
                "FRUITS_SERVICE_SECURITY_GROUP and FRUITS_SUBNET_ID belong together: set all four "
                "or no group at all"
            )

    @property
    def images_bucket(self) -> str:
        """Bucket of the images."""
        return self.images_uri.removeprefix("s3://").partition("/")[0]

    @property
    def lake(self) -> str:
        """The lake's URI without a slash at its end."""
        return self.lake_uri.rstrip("/")


def load_settings(**overrides: Any) -> Settings:
    """Return the environment's settings with *overrides*.

    Raises SettingsError: one line that names every wrong setting, its value, and what is right.
    """
    # With another prefix it is not this environment's.
    wrong = {} if "_env_prefix" in overrides else _misspelt()
    try:
        settings = Settings(**overrides)
        wrong |= _unpriced(settings)
    except ValidationError as error:
        wrong |= dict(_explain(details) for details in error.errors())
    if wrong:
        raise SettingsError(
            f"{'; '.join(wrong.values())}.",
            "Nothing was created: change that and start again.",
            wrong=wrong,
        )
    return settings


def load_guard_settings() -> Settings:
    """Return the environment's settings for the watchdog, which goes by GUARDED.

    A slip in something else must not take the guard from clusters that live: all else is at its
    default then, but for whom it tells, and the log says what is wrong. Raises SettingsError where
    GUARDED itself is.
    """
    try:
        return load_settings()
    except SettingsError as error:
        names = {f"FRUITS_{name}".upper() for name in GUARDED}
        if names & {*error.wrong, *_meant().values()}:
            raise
        log.warning("The watchdog looks all the same: %s", error)
        return _guard_settings("FRUITS_ALERT_TOPIC" in error.wrong)


def _guard_settings(is_topic_wrong: bool) -> Settings:
    """Return the defaults, but for GUARDED and the topic, unchecked: what is wrong is known.

    A check of them all could refuse a lake for a default that nobody uses.
    """
    environment = {name.upper(): value for name, value in os.environ.items()}
    fields = Settings.model_fields.items()
    values = {name: field.get_default(call_default_factory=True) for name, field in fields}
    for name in (*GUARDED, "alert_topic"):
        values[name] = environment.get(f"FRUITS_{name}".upper()) or values[name]
    if is_topic_wrong or f":sns:{values['region']}:" not in (values["alert_topic"] or ""):
        values["alert_topic"] = None
    return Settings.model_construct(**values)


def _unpriced(settings: Settings) -> dict[str, str]:
    """Return the instance types that have no price in the region: no cap could hold for them."""
    prices, found = read_prices(settings.region), {}
    for field in ("primary_instance_type", "worker_instance_type"):
        try:
            prices.price(getattr(settings, field))
        except UnknownPriceError as error:
            name = f"FRUITS_{field}".upper()
            found[name] = f"{name}: {str(error).rstrip('.')}"
    return found


def _misspelt() -> dict[str, str]:
    """Return what to say of variables that look like a setting and are none."""
    return {
        name: f"there is no setting {name}: is it {setting}?" for name, setting in _meant().items()
    }


def _meant() -> dict[str, str]:
    """Return the variables that would be ignored, and the settings that they resemble."""
    known = [f"FRUITS_{name}".upper() for name in Settings.model_fields]
    return {
        name: close[0]
        for name in os.environ
        if name.startswith("FRUITS_") and name not in known
        if (close := get_close_matches(name, known, n=1, cutoff=0.85))
    }


def _explain(error: ErrorDetails) -> tuple[str, str]:
    """Return the name of the setting and what is the matter; no name if it is several together."""
    says = re.sub(r"^\w+ should", "it should", error["msg"].removeprefix("Value error, "))
    name = "_".join(("FRUITS", *map(str, error["loc"]))).upper() if error["loc"] else ""
    match error["type"]:
        case "value_error":  # a validator of ours: it repeats the value
            return name, f"{name}: {says}" if name else says
        case "extra_forbidden":
            return name, f"there is no setting {name}"
        case _:
            return name, f"{name} is {error['input']!r}: {says}"
