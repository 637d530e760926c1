"""What a step tells about itself in its work folder: how far it is, and why it failed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from fruits.errors import MissingObjectError

log = logging.getLogger(__name__)


def describe_progress(work: str) -> str | None:
    """Return a line such as ``640/1960 images, 120/s, 11 s left``; None if nothing can be read.

    *work* is the folder of the step's attempt. It is empty before the step began; and an S3 that
    does not answer ends no wait.
    """
    progress = read_progress(work)
    if progress is None:
        return None
    left = f", {progress['eta_seconds']:.0f} s left" if progress.get("eta_seconds") else ""
    rate = progress.get("images_per_second") or 0
    return f"{progress['done']}/{progress['total']} images, {rate:.0f}/s{left}"


def read_progress(work: str) -> dict[str, Any] | None:
    """Return what the step last told of itself, *done* and *total* among it; None if unknown."""
    told = _read(f"{work}/progress.json") or {}
    return told if {"done", "total"} <= told.keys() else None


@dataclass(frozen=True)
class Failure:
    """Why a step failed, in its own words; *lasting* says that it would fail again."""

    cause: str
    lasting: bool


def read_failure(work: str) -> Failure | None:
    """Return why the step failed; None if it could not say."""
    failure = _read(f"{work}/failure.json")
    return Failure(failure["cause"], failure.get("lasting", False)) if failure else None


def describe_failure(work: str) -> str | None:
    """Return why the step failed, in its own words; None if it could not say."""
    failure = read_failure(work)
    return failure.cause if failure else None


def _read(uri: str) -> dict[str, Any] | None:
    from botocore.exceptions import BotoCoreError, ClientError

    from fruits.objects import read_json

    try:
        return read_json(uri)
    except MissingObjectError:
        return None
    except (BotoCoreError, ClientError, ValueError) as error:
        log.warning("%s could not be read this time: %s", uri, error)
        return None
