"""What the Makefile makes of its variables: the command that a target would run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Each flag: a target that asks for it, and what its command has for a yes.
FLAGS = {
    "WIDE": ("export", "--wide"),
    "YES": ("erase", "--yes"),
    "AWS": ("switch-model", "docker/aws.env"),
    "ACCEPT_MISSING": ("switch-model", "--accept-missing"),
    "DELETE_IMAGES": ("aws-remove", "--delete-images"),
    "AIRFLOW": ("aws-deploy", "--airflow yes"),
}

# A Python that says how it was called.
CALLED = """#!/bin/sh
printf '%s\\n' "$@" "$FRUITS_WEIGHTS"
"""
# A Python that writes down how it was called, and makes of an environment what the next call needs.
PYTHON = """#!/bin/sh
echo "$*" >>{calls}
case "$*" in
*venv*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
*install*) printf '#!/bin/sh\\n' >.venv/bin/uv; chmod +x .venv/bin/uv ;;
esac
"""

# Names that make or the shell would read as something else; the folder is the test's.
ODD_NAMES = [
    "IMG$1",
    "$(shell touch {}/ran)",
    "$(touch {}/ran)",
    "`touch {}/ran`",
    'it\'s "$$" # \\',
]

of_each_flag = pytest.mark.parametrize("flag", FLAGS)
of_odd_names = pytest.mark.parametrize("name", ODD_NAMES)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with the Makefile, a Python that writes `calls`, and no environment."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements-dev.txt").write_text("uv==1.2.3\n")
    executable(tmp_path / "python3.11", PYTHON.format(calls=tmp_path / "calls"))
    return tmp_path


def executable(path: Path, script: str) -> None:
    """Write *script* to *path*, where it can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)


def set_up(clone: Path) -> list[str]:
    """Run `make setup` in *clone*; return how its Pythons were called, but for their version."""
    done = make("setup", f"PYTHON={clone / 'python3.11'}", folder=clone)
    assert done.returncode == 0, done.stderr
    calls = (clone / "calls").read_text().splitlines()
    return [call for call in calls if not call.startswith("-c ")]


def ran(folder: Path, target: str, *variables: str) -> list[str]:
    """Run *target* with a Python that only says how it is called; return what it said."""
    executable(folder / "bin/python", CALLED)
    done = make("--assume-old=.venv/.ready", target, f"BIN={folder / 'bin'}", *variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def would_run(target: str, *variables: str) -> subprocess.CompletedProcess[str]:
    """Return what `make` would run for *target*, with these NAME=value."""
    return make("--dry-run", "--assume-old=.venv/.ready", target, *variables)


def make(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run `make` with these *words*."""
    # What the make that runs these tests, itself perhaps run by another, told its own children.
    others = ("PORT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")
    known = {name: value for name, value in os.environ.items() if name not in (*FLAGS, *others)}
    return subprocess.run(
        ["make", *words], capture_output=True, text=True, cwd=folder, env=known, check=False
    )


@of_each_flag
@pytest.mark.parametrize("value", ["yes", "1", "true"])
def test_yes_is_a_yes(flag: str, value: str) -> None:
    """A flag is set by `yes`, and by what other tools take for it."""
    target, sign = FLAGS[flag]

    assert sign in would_run(target, f"{flag}={value}").stdout


@of_each_flag
@pytest.mark.parametrize("value", ["no", "0", "false", ""])
def test_no_is_a_no(flag: str, value: str) -> None:
    """Who says no, to the deletion of photographs for instance, is not taken to have said yes."""
    target, sign = FLAGS[flag]
    done = would_run(target, f"{flag}={value}")

    assert (done.returncode, sign in done.stdout) == (0, False)


@of_each_flag
def test_any_other_value_is_refused(flag: str) -> None:
    """A value that is neither yes nor no stops make, which names the flag and the value."""
    target, _ = FLAGS[flag]
    done = would_run(target, f"{flag}=maybe")

    assert (done.returncode, done.stdout) == (2, "")
    assert f"{flag}=maybe is neither yes (1, true) nor no (0, false)" in done.stderr


def test_machine_with_airflow_stays_unless_something_is_said() -> None:
    """`make aws-deploy` alone changes nothing about it: only a no removes it."""
    assert "--airflow" not in would_run("aws-deploy").stdout
    assert "--airflow no" in would_run("aws-deploy", "AIRFLOW=no").stdout


def test_batch_asks_where_its_images_are() -> None:
    """The prefix of IMAGES has one rule, that of `make demo` and `make up`."""
    told = would_run("batch", "IMAGES=plugins", "WEIGHTS=seeded").stdout

    assert "uri=\"$(.venv/bin/python -m local_cloud uri 'plugins')\"" in told
    assert 'FRUITS_IMAGES_URI="$uri" .venv/bin/python -m local_cloud run' in told


@pytest.mark.parametrize(("variables", "published"), [([], "X"), (["FRUITS_BACKBONE=Y"], "Y")])
def test_the_backbone_that_is_said_is_published(
    clone: Path, variables: list[str], published: str
) -> None:
    """A lake of another network gets weights for a Reprocess, whatever the stack's settings say."""
    executable(clone / "bin/python", '#!/bin/sh\necho "$FRUITS_BACKBONE for $FRUITS_LAKE"\n')
    (clone / "docker").mkdir()
    (clone / "docker/aws.env").write_text("FRUITS_LAKE=s3://lake\nFRUITS_BACKBONE=X\n")
    words = ["--assume-old=.venv/.ready", "aws-publish", f"BIN={clone / 'bin'}", "WEIGHTS=a.h5"]

    done = make(*words, *variables, folder=clone)

    assert done.stdout == f"{published} for s3://lake\n", done.stderr


def test_nothing_is_removed_under_a_cloud_that_runs() -> None:
    """`make clean` stops the cloud before it removes the cloud's folder."""
    stop, remove = would_run("clean").stdout.splitlines()

    assert "local_cloud down" in stop
    assert remove.startswith("rm -rf var ")


@pytest.mark.parametrize(("variables", "port"), [([], "8080"), (["PORT=8123"], "8123")])
def test_airflow_listens_where_it_is_told(variables: list[str], port: str) -> None:
    """`make up PORT=…` starts Airflow there and says so, where somebody else has 8080."""
    told = would_run("up", "IMAGES=plugins", "WEIGHTS=seeded", *variables).stdout

    assert f'--airflow-port "{port}"' in told
    assert f"Airflow: http://127.0.0.1:{port} " in told


def test_half_an_environment_is_made_anew(clone: Path) -> None:
    """Debian's Python without python3-venv leaves one that has no pip, and never would have."""
    executable(clone / ".venv/bin/python", "#!/bin/sh\necho 'No module named pip' >&2; exit 1\n")

    made, installed = set_up(clone)

    assert made == "-m venv --clear .venv"
    assert installed.endswith("install uv==1.2.3")


def test_a_whole_environment_stays(clone: Path) -> None:
    """`make setup` after a change of requirements only installs what changed."""
    set_up(clone)
    (clone / "calls").write_text("")
    (clone / "requirements-dev.txt").write_text("uv==1.2.3\nmore==1\n")
    (clone / ".venv/.ready").unlink()

    assert set_up(clone) == []


@of_odd_names
def test_the_key_to_erase_is_the_one_that_was_given(tmp_path: Path, name: str) -> None:
    """No other photograph is erased, and no command is run, because a key has a $ in it."""
    key = name.format(tmp_path)

    told = ran(tmp_path, "erase", f"KEY={key}", "IN_CLOUD=true")

    assert told[:-1] == ["-m", "fruits.erasures", "--", key]
    assert not (tmp_path / "ran").exists()


@of_odd_names
def test_the_key_may_be_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What the shell handed to make reaches the command as it is, too."""
    monkeypatch.setenv("KEY", name.format(tmp_path))

    assert ran(tmp_path, "erase", "IN_CLOUD=true")[-2] == name.format(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_nothing_is_erased_without_a_key() -> None:
    """Who forgets KEY is told how to name an image."""
    done = make("--assume-old=.venv/.ready", "erase", "IN_CLOUD=true", "BIN=/nowhere")

    assert done.returncode == 2
    assert "make erase KEY=" in done.stderr


@of_odd_names
def test_paths_are_those_that_were_given(tmp_path: Path, name: str) -> None:
    """A folder of images and a file of weights may be called anything."""
    images, weights = tmp_path / name.format(tmp_path), tmp_path / f"{name.format(tmp_path)}.h5"
    images.mkdir(parents=True)
    weights.write_bytes(b"")

    told = ran(tmp_path, "demo", f"IMAGES={images}", f"WEIGHTS={weights}")

    assert told == ["-m", "local_cloud", "demo", str(images), str(weights)]
    assert not (tmp_path / "ran").exists()


def test_a_path_that_is_not_there_is_named_as_it_was_given() -> None:
    """The message shows the $ that somebody forgot about."""
    done = make("--assume-old=.venv/.ready", "input", "IMAGES=no/$1", "BIN=/nowhere")

    assert done.returncode == 2
    assert "IMAGES=no/$1 is not a folder" in done.stderr


def test_an_export_is_written_where_it_was_told() -> None:
    """No other file is replaced than the one that was named."""
    assert "--output 'my $1.csv'" in would_run("export", "OUTPUT=my $1.csv").stdout
