"""What this machine's Python has already: the node locks that a bootstrap action need not install.

On EMR a custom image may have them baked in. Here the nodes are this machine, and the Python that
runs the endpoint has what the jobs need; each node says so beside its instance.json.
"""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

SHOWN = 5
LOCKS = Path(__file__).resolve().parents[2] / "bootstrap" / "node"


def python_locks() -> tuple[str, ...]:
    """Return the SHA-256 of each requirements*.txt of the nodes that this Python meets exactly."""
    return tuple(_sha256(lock) for lock in _locks() if not differences(lock))


def what_lacks() -> str:
    """Return what this Python lacks of the lock that it meets best, and the way out; else "".

    Whoever changed a package in it reads this where its nodes cannot be prepared.
    """
    lacking = min((differences(lock) for lock in _locks()), key=len)
    if not lacking:
        return ""
    told = ", ".join(lacking[:SHOWN]) + (", ..." if len(lacking) > SHOWN else "")
    return (
        f"{sys.executable} has other packages than the nodes' lock: {told}. Give it back what the "
        "project pins (rm .venv/.ready; make setup), then start the cloud again.\n"
    )


def _locks() -> list[Path]:
    return sorted(LOCKS.glob("requirements*.txt"))


def differences(lock: Path) -> list[str]:
    """Return what *lock* pins and this Python has not, for people: `numpy 2.4.6 (here: 2.4.5)`."""
    pinned = (_pinned(line) for line in lock.read_text().splitlines() if _is_requirement(line))
    found = [(wanted, _installed(wanted.name)) for wanted in pinned if _applies(wanted)]
    return [
        f"{wanted.name} {wanted.specifier} (here: {there})"
        for wanted, there in found
        if there is None or there not in wanted.specifier
    ]


def _is_requirement(line: str) -> bool:
    return line[:1].isalnum()


def _pinned(line: str) -> Requirement:
    return Requirement(line.rstrip("\\ "))


def _applies(wanted: Requirement) -> bool:
    # pip is there to install the others.
    return wanted.name != "pip" and (wanted.marker is None or wanted.marker.evaluate())


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _sha256(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()
