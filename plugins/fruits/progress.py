"""How far a running step is, in one line: the step rewrites progress.json as it works."""

from __future__ import annotations

from fruits.errors import MissingObjectError


def describe_progress(progress_uri: str) -> str | None:
    """Return a line such as ``640/1960 images, 120/s, 11 s left``; None before the step began."""
    from fruits.objects import read_json

    try:
        progress = read_json(progress_uri)
    except MissingObjectError:
        return None
    left = f", {progress['eta_seconds']:.0f} s left" if progress.get("eta_seconds") else ""
    rate = progress.get("images_per_second") or 0
    return f"{progress['done']}/{progress['total']} images, {rate:.0f}/s{left}"
