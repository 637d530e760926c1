"""The command line: run, up, down, status, sync, uri, samples, and one cloud per folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from local_cloud import airflow as local_airflow
from local_cloud import background
from local_cloud.__main__ import _Signals
from local_cloud.cloud import FOLDER_MARK, LocalCloud, environment_file
from local_cloud.emr import baked
from local_cloud.lock import FolderInUseError
from local_cloud.samples import SIZE, draw_samples
from local_cloud.sync import mirror
from tests.local_cloud.living import with_marker

ROOT = Path(__file__).resolve().parents[2]


def local_cloud(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command from the repository's root and return what it did."""
    command = [sys.executable, "-m", "local_cloud", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def left_over(folder: Path) -> list[Any]:
    """Return what still runs of a cloud over *folder*."""
    return with_marker((FOLDER_MARK, str(folder)))


def demonstrating(folder: Path) -> subprocess.Popen[bytes]:
    """Start the demo over sample images and return its process."""
    images = folder.parent / "images"
    draw_samples(images)
    command = [sys.executable, "-m", "local_cloud", "demo", "--folder", str(folder), str(images)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)


@pytest.fixture(autouse=True)
def _hears_a_closed_terminal() -> Iterator[None]:
    """Let what the tests start be told of it, even if they are run with `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a cloud that does not exist yet."""
    return tmp_path / "var"


def test_run_gives_the_program_a_cloud_and_its_exit_code(folder: Path) -> None:
    """`run` ends with the program's exit code, and everything the cloud started is over."""
    program = """
import boto3, sys
from pathlib import Path
job = dict(Name="x", ReleaseLabel="emr-spark-8.1.0", JobFlowRole="a", ServiceRole="b",
           Instances={"MasterInstanceType": "m5.xlarge", "InstanceCount": 1},
           Steps=[{"Name": "s", "HadoopJarStep": {"Jar": "command-runner.jar",
                   "Args": ["bash", "-c", "setsid sleep 1000 & sleep 1000"]}}])
emr = boto3.client("emr")
cluster_id = emr.run_job_flow(**job)["JobFlowId"]
while not emr.list_steps(ClusterId=cluster_id, StepStates=["RUNNING"])["Steps"]:
    pass
print([bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]])
sys.exit(7)
"""
    done = local_cloud("run", "--folder", folder, "--", sys.executable, "-c", program)

    assert done.stdout == "['fruits-images', 'fruits-lake']\n"
    assert (done.returncode, done.stderr) == (7, "")
    assert not left_over(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_run_ends_cleanly_when_interrupted(
    folder: Path, wait_for: Any, number: signal.Signals
) -> None:
    """A signal reaches the program; then the cloud stops and leaves nothing."""
    command = [sys.executable, "-m", "local_cloud", "run", "--folder", str(folder), "--"]
    marker = folder.parent / "begun"
    program = ["bash", "-c", f"touch {marker}; exec sleep 1000"]
    running = subprocess.Popen([*command, *program], cwd=ROOT, stdin=subprocess.DEVNULL)
    wait_for(marker.exists)
    # Not while the shell waits for its `touch`: it would take an interruption for that one's.
    wait_for(lambda: "sleep" in {process.name() for process in left_over(folder)})
    running.send_signal(number)

    assert running.wait(timeout=60) == 128 + number
    assert not left_over(folder)


def test_a_signal_that_came_early_reaches_the_program() -> None:
    """The one that came while the cloud was starting, and not another."""
    with _Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        child = subprocess.Popen(["sleep", "1000"])
        signals.forward_to(child)

        assert child.wait(timeout=60) == -signal.SIGINT


def test_nohup_is_heard(folder: Path, wait_for: Any) -> None:
    """A cloud whose caller had a closed terminal ignored goes on without one."""
    command = [sys.executable, "-m", "local_cloud", "serve", "--folder", str(folder)]
    serving = subprocess.Popen(["nohup", *command], cwd=ROOT, stdin=subprocess.DEVNULL)
    wait_for((folder / "environment.json").exists)
    serving.send_signal(signal.SIGHUP)
    time.sleep(1)
    # Its end takes longer than a second; what tells its environment goes first.
    went_on = serving.poll() is None and (folder / "environment.json").exists()
    serving.send_signal(signal.SIGTERM)

    assert went_on
    assert serving.wait(timeout=60) == 0
    assert not left_over(folder)


def test_demo_ends_cleanly_however_often_interrupted(folder: Path, wait_for: Any) -> None:
    """A closed terminal may tell again: no later signal stops what ends in order, to the last."""
    running = demonstrating(folder)
    wait_for((folder / "demo-airflow" / "triggerer.log").exists, 240)

    def again() -> bool:
        running.send_signal(signal.SIGHUP)
        return running.poll() is not None

    wait_for(again, 60)
    assert running.returncode == 130
    assert not left_over(folder)


def test_demo_ends_what_a_killed_one_left(folder: Path, wait_for: Any) -> None:
    """The folder of a demo's Airflow is emptied when nobody writes to it any more."""
    home = folder / "demo-airflow"
    program = f"while mkdir -p '{home}' && touch '{home}/old'; do sleep 0.01; done"
    mark = {local_airflow.FOLDER_MARK: str(home)}
    old = subprocess.Popen(["bash", "-c", program], env=os.environ | mark, start_new_session=True)
    wait_for((home / "old").exists)
    running = demonstrating(folder)
    wait_for((home / "secret").exists, 60)
    running.send_signal(signal.SIGTERM)

    assert running.wait(timeout=60) == 130
    assert old.wait(timeout=1) == -signal.SIGKILL
    assert not (home / "old").exists()


def test_program_that_does_not_exist_is_said_so(folder: Path) -> None:
    """`run` with a program that is not there fails in one line, without a traceback."""
    done = local_cloud("run", "--folder", folder, "--", "no-such-program")

    assert done.returncode == 2
    assert done.stderr.startswith("local_cloud: cannot run no-such-program")
    assert not left_over(folder)


def test_up_status_down(folder: Path) -> None:
    """`up` prints exports that reach the cloud, `status` finds it, `down` leaves nothing."""
    try:
        up = local_cloud("up", "--folder", folder)
        again = local_cloud("up", "--folder", folder)
        status = local_cloud("status", "--folder", folder)
        listing = "import boto3; print(boto3.client('emr').list_clusters()['Clusters'])"
        shell = f'eval "$EXPORTS"; \'{sys.executable}\' -c "{listing}"'
        asked = subprocess.run(
            ["bash", "-c", shell],
            env=os.environ | {"EXPORTS": up.stdout},
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        down = local_cloud("down", "--folder", folder)

    assert asked.stdout == "[]\n"
    assert status.returncode == 0
    assert (again.returncode, f"down --folder {folder}" in again.stderr) == (2, True)
    assert down.stdout.startswith("Stopped process")
    assert not left_over(folder)
    assert local_cloud("status", "--folder", folder).returncode == 1
    assert local_cloud("down", "--folder", folder).stdout.startswith("No local cloud")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_that_is_interrupted_leaves_nothing(
    folder: Path, wait_for: Any, number: signal.Signals
) -> None:
    """Whoever gives up waiting for a cloud has none: what was starting is ended."""
    command = [sys.executable, "-m", "local_cloud", "up", "--airflow", "--folder", str(folder)]
    starting = subprocess.Popen(command, cwd=ROOT)
    wait_for(lambda: left_over(folder))
    starting.send_signal(number)

    assert starting.wait(timeout=60) == 130
    assert not left_over(folder)
    assert local_cloud("status", "--folder", folder).returncode == 1


def test_up_that_is_interrupted_while_it_forks_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is there before anybody knows it: its mark finds it."""
    forked: list[subprocess.Popen[bytes]] = []
    fork = subprocess.Popen

    def interrupted(*command: Any, **how: Any) -> None:
        forked.append(fork(*command, **how))
        raise KeyboardInterrupt

    monkeypatch.setattr("local_cloud.background.subprocess.Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        background.up(folder)

    assert forked[0].wait(timeout=5) != 0
    assert not left_over(folder)


def test_down_finds_a_cloud_whose_lock_was_deleted(folder: Path) -> None:
    """`serve` itself has the folder's mark: deleting its folder does not hide it."""
    local_cloud("up", "--folder", folder)
    shutil.rmtree(folder)
    marked = [process.cmdline() for process in left_over(folder)]
    down = local_cloud("down", "--folder", folder)

    assert any("local_cloud" in command for command in marked)
    assert down.returncode == 0
    assert not left_over(folder)


def test_one_cloud_per_folder(cloud: LocalCloud) -> None:
    """A second cloud over a folder is refused with who holds it and how to stop it."""
    with pytest.raises(FolderInUseError) as refused:
        LocalCloud(cloud.folder).start()

    assert refused.value.pid == os.getpid()
    assert "python -m local_cloud down --folder" in str(refused.value)


def test_stopped_cloud_keeps_its_objects_and_ports(folder: Path) -> None:
    """A cloud that is started again has the same endpoints and the same objects."""
    with LocalCloud(folder) as first:
        before = first.environment()
        (first.storage.make_bucket("fruits-images") / "a.jpg").write_bytes(b"x")

    with LocalCloud(folder) as second:
        assert second.environment() == before
        assert (second.storage.folder / "fruits-images" / "a.jpg").read_bytes() == b"x"


def test_a_cloud_that_is_no_up_says_so(cloud: LocalCloud) -> None:
    """A demo's or a batch's ends with it: a shell is told to wait, not to start another."""
    told = local_cloud("environment", "--folder", cloud.folder)

    assert (told.returncode, f"process {os.getpid()}" in told.stderr) == (2, True)
    assert "wait for it" in told.stderr


def test_what_a_killed_cloud_told_is_forgotten(folder: Path) -> None:
    """Its ports may be another's by now."""
    folder.mkdir()
    environment_file(folder).write_text("{}")

    with LocalCloud(folder):
        assert not environment_file(folder).exists()


def test_an_s3_that_ended_is_missed(cloud: LocalCloud, wait_for: Any) -> None:
    """Its log says why; without a look every task would ask a closed port."""

    def missed() -> str:
        try:
            cloud.storage.check_alive()
        except RuntimeError as error:
            return str(error)
        return ""

    before = missed()
    os.kill(cloud.storage.pid, signal.SIGKILL)

    assert before == ""
    assert wait_for(missed).startswith("The local S3 ended with -9")


def test_what_the_machine_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    """A folder that is a file, as on a full or closed disk: no traceback."""
    (tmp_path / "file").touch()

    done = local_cloud("serve", "--folder", tmp_path / "file" / "var")

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("local_cloud: ")


def test_a_folder_may_have_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no name of a remote storage, for which rclone would take it."""
    source = tmp_path / "harvest:2026" / "Apple"
    source.mkdir(parents=True)
    (source / "1.jpg").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)

    done = mirror(Path("harvest:2026"), "s3://fruits-images/harvest/", tmp_path / "buckets")

    assert done.copied == 1


def test_changed_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the locks, the one that is met best; with the way out."""
    pins = "".join(f"package-{number}==1.0\n" for number in range(7))
    (tmp_path / "requirements.txt").write_text("numpy==0.1 \\\n    --hash=sha256:0\n")
    (tmp_path / "requirements-other.txt").write_text(pins)
    monkeypatch.setattr(baked, "LOCKS", tmp_path)

    assert baked.python_locks() == ()
    assert "numpy ==0.1 (here: " in baked.what_lacks()
    assert "make setup" in baked.what_lacks()
    assert "package-0" not in baked.what_lacks()


def test_sync_copies_and_deletes(folder: Path, tmp_path: Path) -> None:
    """`sync` makes the prefix hold exactly the folder's files and says how many it touched."""
    source = tmp_path / "images" / "Apple Red é"
    source.mkdir(parents=True)
    (source / "1.jpg").write_bytes(b"1")
    (source / "2.jpg").write_bytes(b"2")
    command = ("sync", "--folder", folder, tmp_path / "images", "s3://fruits-images/set 1/")

    assert "2 files copied, 0 deleted" in local_cloud(*command).stdout
    (source / "2.jpg").unlink()
    (source / "1.jpg").write_bytes(b"new")
    assert "1 files copied, 1 deleted" in local_cloud(*command).stdout
    bucket = folder / "s3" / "fruits-images"
    files = [path for path in bucket.rglob("*") if path.is_file()]
    assert files == [bucket / "set 1" / "Apple Red é" / "1.jpg"]
    assert files[0].read_bytes() == b"new"


def test_sync_names_the_prefix_after_the_folder(folder: Path, tmp_path: Path) -> None:
    """Without a URI, photographs go where `make demo` and `make batch` put them, too."""
    source = tmp_path / "my photos" / "Apple"
    source.mkdir(parents=True)
    (source / "1.jpg").write_bytes(b"1")

    done = local_cloud("sync", "--folder", folder, source.parent)

    assert "s3://fruits-images/my photos/: 1 files copied" in done.stdout
    assert (folder / "s3" / "fruits-images" / "my photos" / "Apple" / "1.jpg").exists()


def test_link_is_named_after_what_it_leads_to(folder: Path, tmp_path: Path) -> None:
    """The same photographs have one prefix, whatever ingests them, by a link or not."""
    photos = tmp_path / "my photos"
    (photos / "Apple").mkdir(parents=True)
    (photos / "Apple" / "1.jpg").write_bytes(b"1")
    (tmp_path / "link").symlink_to(photos)

    for source in (photos, tmp_path / "link"):
        assert local_cloud("uri", source).stdout == "s3://fruits-images/my photos/\n"
        assert (
            "s3://fruits-images/my photos/"
            in local_cloud("sync", "--folder", folder, source).stdout
        )


def test_sync_never_empties_a_bucket(folder: Path, tmp_path: Path) -> None:
    """A source that is missing or holds no file is refused: it would delete all images."""
    bucket = folder / "s3" / "fruits-images"
    bucket.mkdir(parents=True)
    (bucket / "a.jpg").touch()
    (tmp_path / "empty" / "Apple").mkdir(parents=True)

    for source in ("empty", "missing"):
        done = local_cloud("sync", "--folder", folder, tmp_path / source, "s3://fruits-images/")
        assert (done.returncode, source in done.stderr) == (2, True)
    assert (bucket / "a.jpg").exists()


@pytest.mark.parametrize(
    "uri",
    [
        *("fruits-images/x", "s3://", "s3://bucket/../other", "s3://../x"),
        *("s3://bucket//", "s3://bucket//srv/photos/", "s3://bucket///srv/photos/"),
    ],
)
def test_sync_refuses_what_is_no_uri(tmp_path: Path, uri: str) -> None:
    """A target outside the buckets' folder cannot be written."""
    source = tmp_path / "images"
    source.mkdir()
    (source / "a.jpg").touch()

    with pytest.raises(ValueError, match="is not an s3://bucket/prefix/ URI"):
        mirror(source, uri, tmp_path / "s3")


def test_samples_are_the_same_every_time(tmp_path: Path) -> None:
    """5 x 5 JPEGs of 100 x 100, byte for byte alike in every run, different from one another."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert draw_samples(first) == draw_samples(second) == 25

    files = sorted(path.relative_to(first) for path in first.rglob("*.jpg"))
    contents = [(first / file).read_bytes() for file in files]
    assert contents == [(second / file).read_bytes() for file in files]
    assert len(set(contents)) == 25
    assert len({file.parent for file in files}) == 5
    with Image.open(first / files[0]) as picture:
        assert (picture.size, picture.format) == ((SIZE, SIZE), "JPEG")


def test_samples_leave_what_exists(tmp_path: Path) -> None:
    """Drawing again draws nothing and changes nothing; a missing image alone is drawn."""
    draw_samples(tmp_path)
    mine = next(tmp_path.rglob("*.jpg"))
    mine.write_bytes(b"mine")
    assert draw_samples(tmp_path) == 0

    assert mine.read_bytes() == b"mine"
    mine.unlink()
    assert draw_samples(tmp_path) == 1


def test_samples_say_how_many_labels_there_are(tmp_path: Path) -> None:
    """More labels than there are drawings is refused with the number there are."""
    with pytest.raises(ValueError, match="between 1 and 5"):
        draw_samples(tmp_path, labels=6)
