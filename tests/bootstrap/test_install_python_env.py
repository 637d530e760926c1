"""A node's Python environment: from the wheelhouse alone, made once, and clear when it fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.bootstrap.nodes import SCRIPT, Node
from tests.bootstrap.wheelhouses import make_wheel, make_wheelhouse


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node with Python 3.11 and nothing installed."""
    return Node(tmp_path / "node")


def test_the_environment_has_what_the_lock_names(node: Node) -> None:
    """Packages come from the wheelhouse alone, each by its hash; the log says what was made."""
    lock = make_wheelhouse(node.wheelhouse, "apple", "pear")

    done = node.run(lock)

    assert done.returncode == 0, done.stderr
    assert "3 pinned packages" in done.stdout
    assert list(node.environment.resolve().rglob("apple.*.pyc")), "each worker would compile it"
    assert node.python("import apple, pear; print(apple.VALUE + pear.VALUE)") == "2"


def test_a_second_time_is_a_no_op(node: Node) -> None:
    """Running again installs nothing and does not need the wheelhouse any more."""
    lock = make_wheelhouse(node.wheelhouse, "apple")
    node.run(lock)

    again = node.run(lock, "s3://gone/wheelhouse")

    assert (again.returncode, "nothing to install" in again.stdout) == (0, True)


def test_a_machine_that_has_the_packages_is_left_alone(node: Node) -> None:
    """A baked image, or the local cloud, names the locks that its Python meets."""
    info = node.folder / "info"
    info.mkdir()
    (info / "python-locks").write_text(f"{'0' * 64}\n{'a' * 64}\n")

    done = node.run("a" * 64, "s3://nowhere/wheelhouse")

    assert (done.returncode, "nothing to install" in done.stdout) == (0, True)
    assert not node.environment.exists()


def test_another_lock_makes_another_environment(node: Node) -> None:
    """The link moves when the new environment is whole; a half-made one is made again."""
    first = make_wheelhouse(node.wheelhouse, "apple")
    node.run(first)
    node.wheelhouse = node.folder / "next"
    second = make_wheelhouse(node.wheelhouse, "pear")
    (node.folder / "opt" / f"python-{second[:12]}").mkdir()

    assert node.run(second).returncode == 0
    assert node.python("import pear; print(pear.VALUE)") == "1"


def test_wheels_are_fetched_from_the_lake(node: Node) -> None:
    """`aws s3 cp` copies the wheelhouse; whatever it says reaches the log."""
    lock = make_wheelhouse(node.wheelhouse, "apple")
    node.command(
        "aws",
        '[[ "$*" == "--region eu-west-3 s3 cp --recursive --only-show-errors'
        ' s3://lake/wheelhouse/"* ]]'
        f' && cp -r {node.wheelhouse} "${{@: -1}}"',
    )

    done = node.run(lock, "s3://lake/wheelhouse/")

    assert done.returncode == 0, done.stderr


def test_no_python_3_11(node: Node) -> None:
    """A release without Python 3.11 is named as the cause, with one that has it."""
    node.command("python3.11", "echo 3.9")

    failed_with(node, node.run("a" * 64), "has no Python 3.11", "emr-spark-8.1.0")


def test_python_3_11_comes_from_amazon_linux(node: Node) -> None:
    """A machine on which EMR has installed nothing yet may lack it; it is asked for once."""
    lock = make_wheelhouse(node.wheelhouse, "apple")
    python = node.folder / "bin" / "python3.11"
    kept = node.folder / "python3.11.kept"
    python.rename(kept)
    node.command(
        "dnf",
        f'[[ "$*" == "--assumeyes --quiet install python3.11" ]] && cp {kept} {python}',
    )

    done = node.run(lock)

    assert done.returncode == 0, done.stderr


def test_a_full_disk(node: Node) -> None:
    """Too small a disk fails before anything is fetched, with the figures."""
    node.command("df", "printf 'Filesystem\\nroot 9 9 512 9 /\\n'")

    failed_with(node, node.run("a" * 64), "512 MB free, 3072 MB are needed", "larger root disk")


def test_a_missing_wheelhouse(node: Node) -> None:
    """A lake to which nothing was published says how to publish."""
    node.wheelhouse.mkdir()

    failed_with(node, node.run("a" * 64), "there is no wheelhouse", "make aws-publish")


def test_an_unreadable_lake(node: Node) -> None:
    """What S3 answered is in the log, and which permissions and which endpoint it takes."""
    node.command("aws", "echo 'AccessDenied on GetObject' >&2; exit 1")

    done = node.run("a" * 64, "s3://lake/wheelhouse")

    failed_with(node, done, "cannot be read", "s3:GetObject")
    assert "AccessDenied" in done.stderr


def test_a_changed_lock(node: Node) -> None:
    """A wheelhouse whose lock is not the one that was asked for is not trusted."""
    make_wheelhouse(node.wheelhouse, "apple")

    failed_with(node, node.run("a" * 64), "has SHA-256", "aws-publish")


def test_a_missing_wheel(node: Node) -> None:
    """The package that has no wheel is named."""
    lock = make_wheelhouse(node.wheelhouse, "apple", "pear")
    (node.wheelhouse / "pear-1.0-py3-none-any.whl").unlink()

    failed_with(node, node.run(lock), "no wheel of pear==1.0", "make aws-publish")


def test_a_missing_pip(node: Node) -> None:
    """The installer is one of the wheels, too."""
    lock = make_wheelhouse(node.wheelhouse)
    next(node.wheelhouse.glob("pip-*.whl")).unlink()

    failed_with(node, node.run(lock), "no wheel of pip", "make aws-publish")


def test_a_changed_wheel(node: Node) -> None:
    """A wheel that is not what the lock's author saw is not installed, and is named."""
    lock = make_wheelhouse(node.wheelhouse, "apple", "pear")
    make_wheel(node.wheelhouse, "pear", "import os  # of somebody else\n")

    failed_with(node, node.run(lock), "wheel of pear", "changed after it was published")


def test_a_changed_pip_never_runs(node: Node) -> None:
    """The installer is run from its wheel, so its hash is looked at first."""
    lock = make_wheelhouse(node.wheelhouse)
    pip = next(node.wheelhouse.glob("pip-*.whl"))
    pip.write_bytes(pip.read_bytes() + b"more")

    failed_with(node, node.run(lock), "wheel of pip", "changed after it was published")


def test_a_path_that_is_not_ours_stays(node: Node) -> None:
    """An environment that somebody else made is not replaced."""
    lock = make_wheelhouse(node.wheelhouse)
    (node.environment / "bin").mkdir(parents=True)

    failed_with(node, node.run(lock), "was not made by this script", "FRUITS_NODE_PYTHON")


def test_a_path_that_is_not_ours_may_have_its_reason(node: Node) -> None:
    """The local cloud's is its own Python, in which somebody has changed a package."""
    lock = make_wheelhouse(node.wheelhouse)
    (node.environment / "bin").mkdir(parents=True)
    info = node.folder / "info"
    info.mkdir()
    (info / "python-lacks").write_text("numpy ==2.4.6 (here: 1.26.4)\n")

    failed_with(node, node.run(lock), "was not made by this script", "numpy ==2.4.6 (here: 1.26.4)")
    assert (node.environment / "bin").is_dir()


@pytest.mark.parametrize("arguments", [[], ["s3://lake/w"], ["s3://lake/w", "short", "/opt/p"]])
def test_wrong_arguments_are_refused(node: Node, arguments: list[str]) -> None:
    """The action says how it is called."""
    done = subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env=os.environ | {"INSTANCE_INFO": str(node.folder / "i.json")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "usage" in done.stderr or "64 hex digits" in done.stderr


def test_a_failed_installation_is_not_taken_for_done(node: Node) -> None:
    """After the cause is repaired the same call works."""
    lock = make_wheelhouse(node.wheelhouse, "apple")
    wheel = node.wheelhouse / "apple-1.0-py3-none-any.whl"
    content = wheel.read_bytes()
    wheel.unlink()
    assert node.run(lock).returncode == 1

    wheel.write_bytes(content)

    assert node.run(lock).returncode == 0


def failed_with(
    node: Node, done: subprocess.CompletedProcess[str], cause: str, way_out: str
) -> None:
    """Assert that *done* failed, that its last two lines say why and what to do, and left none."""
    assert done.returncode == 1, done.stdout
    last = done.stderr.strip().splitlines()[-2:]
    assert cause in last[0]
    assert way_out in last[1]
    assert not (node.environment / "bin" / "python").exists()
