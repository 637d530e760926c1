"""Small wheelhouses for tests: the pip that Python brings, and packages made here."""

from __future__ import annotations

import ensurepip
import hashlib
import shutil
import zipfile
from pathlib import Path


def make_wheelhouse(folder: Path, *packages: str) -> str:
    """Fill *folder* with a wheel of pip and of each package; return the SHA-256 of its lock."""
    folder.mkdir(parents=True)
    bundled = Path(ensurepip.__file__).parent / "_bundled"
    pip = next(bundled.glob("pip-*.whl"))
    shutil.copy(pip, folder)
    wheels = [folder / pip.name, *(make_wheel(folder, name) for name in packages)]
    return write_lock(folder, wheels)


def make_wheel(folder: Path, name: str, content: str = "VALUE = 1\n") -> Path:
    """Make a wheel of the package *name*, version 1.0, with one module."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(file, text)
    return wheel


def write_lock(folder: Path, wheels: list[Path]) -> str:
    """Write requirements.txt with the hash of each wheel; return its own SHA-256."""
    lines = [_line(wheel) for wheel in wheels]
    lock = folder / "requirements.txt"
    lock.write_text("".join(lines))
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def pins(lock: Path) -> set[str]:
    """Return the name==version of each package that a lock has."""
    lines = lock.read_text().splitlines()
    return {line.split()[0] for line in lines if line[:1].isalnum()}


def _line(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"
