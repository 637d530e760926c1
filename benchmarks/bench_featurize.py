"""How fast images become features: ours, its upper bounds and its peers, in one run.

    make bench          everything, medians of 5, about two hours on two quiet cores
    make bench-quick    the same on fewer images, once each, under 5 minutes

Images, weights, cores and S3 are the same for all. A contender is a process of its own, warmed up
before it is timed. The local S3 shares the cores; its CPU is reported apart.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Size
from benchmarks.environments import machine, storage
from benchmarks.running import say
from benchmarks.scenarios import SCENARIOS
from benchmarks.tables import markdown

FULL = Size(images=5880, small=20_000, photos=48, thumbnails=100_000, repetitions=5)
QUICK = Size(images=200, small=1_000, photos=6, thumbnails=1_000, repetitions=1, thorough=False)


def main() -> None:
    """Run the scenarios that are asked for; write JSON and Markdown as each one ends."""
    arguments = _parser().parse_args()
    size = QUICK if arguments.quick else FULL
    if arguments.repeat:
        size = size.repeated(arguments.repeat)
    content = {"machine": machine(), "size": vars(size), "scenarios": {}}
    with (
        tempfile.TemporaryDirectory(prefix="fruits-bench-", dir=arguments.folder) as name,
        storage(Path(name)) as s3,
    ):
        bench = Bench(
            s3,
            Path(name),
            size,
            images=Path(arguments.images),
            weights=arguments.weights,
            peers=arguments.peers_python,
        )
        for scenario in arguments.scenarios or SCENARIOS:
            say(f"== {scenario}")
            content["scenarios"][scenario] = SCENARIOS[scenario](bench)
            content["machine"]["load_average_after"] = os.getloadavg()
            _write(arguments.output, content)
    print(markdown(content))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help="default: all")
    parser.add_argument("--quick", action="store_true", help="few images, once each")
    parser.add_argument("--repeat", type=int, help="repetitions of each contender")
    parser.add_argument("--images", required=True, help="folder of label folders")
    parser.add_argument("--weights", default="auto", help="file.h5, imagenet, seeded or auto")
    parser.add_argument("--peers-python", type=Path, default=Path(".venv-bench/bin/python"))
    parser.add_argument("--folder", help="where the local S3 keeps its objects (default: /tmp)")
    parser.add_argument("--output", type=Path, default=Path("var/bench/featurize.json"))
    return parser


def _write(output: Path, content: dict[str, Any]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1) + "\n")
    output.with_suffix(".md").write_text(markdown(content) + "\n")


if __name__ == "__main__":
    main()
