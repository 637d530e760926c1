"""The compose command of this machine, and what is set in files for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def compose_tool() -> list[str]:
    """Return `docker compose`, or `docker-compose` where that is all there is, or nothing."""
    if shutil.which("docker"):
        asked = ["docker", "compose", "version"]
        if not subprocess.run(asked, capture_output=True, check=False).returncode:
            return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else []


def variables(file: Path) -> dict[str, str]:
    """Return what an env file sets."""
    lines = (line for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)  # type: ignore[misc]
