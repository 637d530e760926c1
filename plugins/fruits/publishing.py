"""Everything that clusters take from the lake, put there at once: what a deployment ends with.

    python -m fruits.publishing

Wheels, jobs, scripts, weights, the exported network, and the code for a machine that runs Airflow,
each under a name that holds the hash of its content, or of the lock, the weights and the jobs that
it was made from. A run uploads what is missing of them by
itself, but the wheels, which need a package index; doing all of it here means that the first run
waits for nothing.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from fruits.code_archive import publish_code
from fruits.errors import FruitsError
from fruits.settings import Settings, load_settings
from fruits.staging import stage_jobs
from fruits.weights import (
    Weights,
    WeightsError,
    publish_command,
    publish_weights,
    resolve_weights,
)
from fruits.wheelhouse import LOCKS, download_wheels, upload_wheels, wheelhouse_uri

log = logging.getLogger(__name__)


def publish(
    settings: Settings, *, wheels: Path | None = None, weights_sha256: str = ""
) -> dict[str, str]:
    """Upload what is missing in the lake of *settings*; return the URIs of everything.

    *wheels* is a wheelhouse that is there already; without it one is downloaded. Raises
    WeightsError for weights that are for trials, that are not *weights_sha256*, or that were
    downloaded and are pinned by no hash.
    """
    weights = _pinned_weights(settings, weights_sha256)
    staged = stage_jobs(settings.lake, settings.region, weights, engine=settings.engine)
    _publish_wheels(settings, wheels)
    code = publish_code(settings.lake)
    # The last: from now on runs take all of it.
    publish_weights(weights, settings.backbone, settings.lake)
    return asdict(staged) | {"code": f"{settings.lake}/{code}"}


def _pinned_weights(settings: Settings, sha256: str) -> Weights:
    if settings.weights in ("auto", "published", "seeded"):
        raise WeightsError(
            f"FRUITS_WEIGHTS is {settings.weights!r}, which names no weights to publish.",
            f"Give a weights file, or imagenet: {publish_command(settings.backbone)}",
        )
    weights = resolve_weights(
        settings.backbone, settings.weights, settings.cache_folder, settings.lake
    )
    if weights.source == "imagenet" and not sha256:
        raise WeightsError(
            f"The ImageNet weights that Keras downloaded have SHA-256 {weights.sha256}.",
            "If that is what you expect, pin it: "
            f"{publish_command(settings.backbone, 'imagenet')} WEIGHTS_SHA256={weights.sha256}",
        )
    if sha256 and weights.sha256 != sha256:
        raise WeightsError(
            f"{weights.path} has SHA-256 {weights.sha256}, not {sha256}.",
            "Another file was downloaded or given than the one that was pinned.",
        )
    return weights


def _publish_wheels(settings: Settings, wheels: Path | None) -> None:
    uri = wheelhouse_uri(settings.lake, settings.engine)
    with tempfile.TemporaryDirectory() as folder:
        source = wheels or download_wheels(LOCKS[settings.engine], Path(folder))
        files, size = upload_wheels(source, uri, settings.region)
    log.info("Wheels: %d files sent (%.0f MB), the rest was there", files, size / 1e6)


def main(arguments: list[str] | None = None) -> int:
    """Publish; 0, or 1 with what is wrong and the way out."""
    parser = argparse.ArgumentParser(
        prog="python -m fruits.publishing",
        description=__doc__,
        epilog="Settings come from the environment (FRUITS_LAKE_URI, FRUITS_REGION, "
        "FRUITS_BACKBONE, FRUITS_WEIGHTS, FRUITS_ENGINE), credentials from where boto3 looks.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--wheels", type=Path, help="a folder with the wheels and requirements.txt")
    parser.add_argument("--weights-sha256", default="", help="the weights have to have this hash")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        published = publish(
            load_settings(), wheels=options.wheels, weights_sha256=options.weights_sha256
        )
    except (FruitsError, BotoCoreError, ClientError) as error:
        log.error("%s", error)  # noqa: TRY400  (the traceback says nothing more)
        return 1
    for name, uri in published.items():
        log.info("%-20s %s", name, uri)
    return 0


if __name__ == "__main__":
    sys.exit(main())
