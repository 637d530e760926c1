"""The command line: `python -m local_cloud --help` lists what there is."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from local_cloud import background
from local_cloud.addresses import LOOPBACK
from local_cloud.airflow import PARSED_ONCE, LocalAirflow, end_left_over
from local_cloud.cloud import FOLDER_MARK, LocalCloud, environment_file
from local_cloud.demo import Demo
from local_cloud.emr.spark import submit_arguments
from local_cloud.lock import holder
from local_cloud.samples import draw_samples
from local_cloud.sync import mirror

LOOK_SECONDS = 5.0
_STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # the last: its terminal was closed


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; what it cannot do, it says in one line."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ValueError, RuntimeError, OSError, OverflowError) as error:
        print(f"local_cloud: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130


def run(options: argparse.Namespace) -> int:
    """Run a program with the cloud around it; its exit code is ours."""
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        raise ValueError("name a program: python -m local_cloud run --folder var -- PROGRAM …")
    with _Signals() as signals, LocalCloud(options.folder) as cloud:
        try:
            mark = {FOLDER_MARK: str(cloud.folder)}  # for `down` to end what a killed cloud left
            child = subprocess.Popen(program, env=os.environ | cloud.environment() | mark)
        except OSError as error:
            raise ValueError(f"cannot run {program[0]}: {error}") from error
        signals.forward_to(child)
        code = child.wait()
        return 128 - code if code < 0 else code


def serve(options: argparse.Namespace) -> int:
    """Run the cloud until a signal ends it; RuntimeError if S3 or a process of Airflow's ends."""
    airflow = None
    with ExitStack() as stack:
        signals = stack.enter_context(_Signals())
        cloud = stack.enter_context(
            LocalCloud(options.folder, options.bind, options.s3_port, options.emr_port)
        )
        # For the Spark sessions of a shell; a step has its cluster's configuration.
        known = cloud.environment() | {
            "PYSPARK_SUBMIT_ARGS": submit_arguments(cloud.storage.folder)
        }
        if options.airflow:
            airflow = stack.enter_context(
                _airflow(cloud, cloud.folder / "airflow", options.airflow_port)
            )
            known |= {"AIRFLOW_URL": airflow.url} | airflow.command_settings
        file = environment_file(cloud.folder)
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(known))
        draft.replace(file)
        stack.callback(file.unlink, missing_ok=True)
        while not signals.came.wait(LOOK_SECONDS):
            cloud.storage.check_alive()
            if airflow:
                airflow.check_alive()  # without its scheduler, runs would wait for ever
    return 0


def environment(options: argparse.Namespace) -> int:
    """Print the environment of the cloud that runs, for a shell's eval."""
    if not environment_file(options.folder).exists():
        if pid := holder(options.folder):
            raise RuntimeError(
                f"The local cloud over {options.folder} (process {pid}) is starting, or is that of "
                "a demo or a batch, which ends with it: wait for it"
            )
        raise RuntimeError(f"No local cloud runs over {options.folder}: start it with `up`")
    for name, value in background.environment_of(options.folder).items():
        _say(f"export {name}={shlex.quote(value)}")
    return 0


def up(options: argparse.Namespace) -> int:
    """Start the cloud in the background and print its environment for a shell's eval."""
    airflow = [f"--airflow-port={options.airflow_port}", "--airflow"] if options.airflow else []
    with _Signals(interrupt=True):
        background.up(options.folder, airflow)
    return environment(options)


def demo(options: argparse.Namespace) -> int:
    """Run the DAG once in a real Airflow, over a folder of images; 0 if the run succeeded."""
    with _Signals(interrupt=True), LocalCloud(options.folder) as cloud:
        target = _images_uri(options.images)
        done = mirror(options.images, target, cloud.storage.folder)
        _say(f"{target}: {done.copied} files copied, {done.deleted} deleted")
        _say("Starting Airflow ...")
        # An Airflow of its own: one with a past would first make up for the nights it missed.
        folder = cloud.folder / "demo-airflow"
        end_left_over(folder)
        shutil.rmtree(folder, ignore_errors=True)
        with _airflow(cloud, folder, options.airflow_port, PARSED_ONCE) as airflow:
            show = Demo(airflow, cloud.storage)
            show.wait_for_dag()
            return 0 if show.run({"images_uri": target}) else 1


def _images_uri(folder: Path) -> str:
    """Return where a folder of photographs is put when nothing else is said.

    A link is named after what it leads to, so that the same photographs are there once.
    """
    return f"s3://fruits-images/{folder.resolve().name}/"


def _airflow(
    cloud: LocalCloud, folder: Path, port: int, more: Mapping[str, str] | None = None
) -> LocalAirflow:
    root = Path(__file__).resolve().parents[1]
    # The mark, for `down` to end it when it ends a cloud that was killed.
    environment = cloud.environment() | {FOLDER_MARK: str(cloud.folder)} | dict(more or {})
    return LocalAirflow(folder, root, environment, port)


def down(options: argparse.Namespace) -> int:
    """End the cloud in the background."""
    pid = background.down(options.folder)
    _say(f"Stopped process {pid}" if pid else f"No local cloud runs over {options.folder}")
    return 0


def status(options: argparse.Namespace) -> int:
    """Say whether a cloud runs: exit code 0 when it does, 1 when not."""
    pid = holder(options.folder)
    if not pid:
        _say(f"No local cloud runs over {options.folder}")
        return 1
    _say(f"A local cloud runs over {options.folder}: process {pid}")
    if environment_file(options.folder).exists():
        told = background.environment_of(options.folder)
        names = {
            "S3": "AWS_ENDPOINT_URL_S3",
            "EMR": "AWS_ENDPOINT_URL_EMR",
            "Airflow": "AIRFLOW_URL",
        }
        _say(" · ".join(f"{what} {told[name]}" for what, name in names.items() if name in told))
    return 0


def sync(options: argparse.Namespace) -> int:
    """Mirror a folder into a bucket."""
    target = options.uri or _images_uri(options.source)
    done = mirror(options.source, target, options.folder.resolve() / "s3")
    _say(f"{target}: {done.copied} files copied, {done.deleted} deleted")
    return 0


def uri(options: argparse.Namespace) -> int:
    """Print where `sync` puts a folder: other programs need not know the rule."""
    _say(_images_uri(options.source))
    return 0


def samples(options: argparse.Namespace) -> int:
    """Draw sample images."""
    written = draw_samples(options.target)
    _say(f"{options.target}: {written} images drawn")
    return 0


class _Signals:
    """Notes the signals of _STOPPING, and hands them on, so that a `with` around it ends in order.

    With *interrupt*, the first interrupts what runs, as Ctrl-C does in Python, and those after it
    change nothing, to the process's end. One that the caller ignored, as `nohup` does, stays
    ignored.
    """

    def __init__(self, *, interrupt: bool = False) -> None:
        self._interrupt = interrupt
        self.came = threading.Event()
        self._first: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def forward_to(self, child: subprocess.Popen[bytes]) -> None:
        """Pass on every signal from now on, and the first that came already."""
        self._child = child
        if self._first:
            child.send_signal(self._first)

    def __enter__(self) -> _Signals:
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
        noted = _STOPPING - ignored
        self._before = {number: signal.signal(number, self._note) for number in noted}
        return self

    def __exit__(self, *_: object) -> None:
        ended = self._interrupt and self.came.is_set()
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if ended else handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        is_first = self._first is None
        self._first = self._first or number
        self.came.set()
        if self._interrupt and is_first:  # a second would interrupt the end that is in order
            raise KeyboardInterrupt
        # A terminal sends Ctrl-C to the whole foreground group: the child has had it already.
        by_terminal = number == signal.SIGINT and sys.stdin.isatty()
        if self._child and self._child.poll() is None and not by_terminal:
            self._child.send_signal(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_cloud", description="S3 and EMR on this machine, over one folder."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function, summary in (
        ("run", run, "run a program with the cloud around it, then stop everything"),
        ("serve", serve, "run the cloud until it is interrupted"),
        ("up", up, "start the cloud in the background; prints exports for `eval`"),
        ("environment", environment, "print the exports of the cloud that runs"),
        ("down", down, "stop the cloud that `up` started, with everything it runs"),
        ("status", status, "say whether a cloud runs over the folder"),
        ("sync", sync, "mirror a local folder into a bucket (copies and deletes)"),
        ("uri", uri, "print where `sync` puts a folder when no URI is said"),
        ("demo", demo, "run the DAG once in a real Airflow, and show what it did"),
        ("samples", samples, "draw fruit-like sample images"),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(command=function)
        if name not in ("uri", "samples"):
            command.add_argument(
                "--folder", type=Path, default=Path("var"), help="where the cloud lives (var)"
            )
        _ARGUMENTS.get(name, lambda _: None)(command)
    return parser


def _run_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("program", nargs=argparse.REMAINDER, help="-- PROGRAM ARGUMENTS…")


def _sync_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=Path, help="the local folder")
    command.add_argument(
        "uri", nargs="?", help="s3://bucket/prefix/ (s3://fruits-images/<name of the folder>/)"
    )


def _uri_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=Path, help="the local folder")


def _samples_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("target", type=Path, help="the folder to draw into")


def _serve_arguments(command: argparse.ArgumentParser) -> None:
    _airflow_arguments(command)
    command.add_argument(
        "--bind", default=LOOPBACK, help=f"the address S3 and EMR listen on ({LOOPBACK})"
    )
    command.add_argument("--s3-port", type=int, default=0, help="S3's port (that of last time)")
    command.add_argument("--emr-port", type=int, default=0, help="EMR's port (that of last time)")


def _airflow_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--airflow", action="store_true", help="run Airflow with it")
    _port_argument(command)


def _demo_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("images", type=Path, help="a folder of label folders")
    _port_argument(command)


def _port_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--airflow-port", type=int, default=0, help="its port (any free one)")


_ARGUMENTS = {
    "run": _run_arguments,
    "serve": _serve_arguments,
    "up": _airflow_arguments,
    "demo": _demo_arguments,
    "sync": _sync_arguments,
    "uri": _uri_arguments,
    "samples": _samples_arguments,
}


def _say(line: str) -> None:
    print(line)  # noqa: T201  (a command's answer)


if __name__ == "__main__":
    sys.exit(main())
