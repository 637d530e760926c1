"""Exporters: programs of the jobs that answer, fail with a reason, or are ended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fruits import exporters
from fruits.exporters import run_exporter
from fruits.weights import WeightsError


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return where a test writes its exporter."""
    return tmp_path / "export_nothing.py"


def test_what_a_program_prints_is_its_answer(program: Path) -> None:
    """It gets its arguments, and imports what lies beside it."""
    program.with_name("beside.py").write_text("WORD = 'hello'")
    program.write_text("import beside, sys; print(beside.WORD, *sys.argv[1:])")

    assert run_exporter(program, "a", "b", failure=WeightsError) == "hello a b\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import sys; sys.exit('a warning\\nexport_nothing failed: No weights.')", "No weights."),
        ("raise SystemExit(3)", "exit code 3"),
    ],
)
def test_a_program_that_fails_says_why(program: Path, source: str, said: str) -> None:
    """Its last line is the error; without one, its exit code is."""
    program.write_text(source)

    with pytest.raises(WeightsError) as failure:
        run_exporter(program, failure=WeightsError)

    assert str(failure.value) == said


def test_a_program_that_hangs_is_ended(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that never ends must not hold a task for ever; the next try may go through."""
    monkeypatch.setattr(exporters, "LIMIT_SECONDS", 1)
    program.write_text("import time; time.sleep(60)")
    started = time.monotonic()

    with pytest.raises(WeightsError, match="export_nothing was not done after 1 s") as failure:
        run_exporter(program, failure=WeightsError)

    assert time.monotonic() - started < 30
    assert failure.value.transient
