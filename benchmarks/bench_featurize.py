"""How fast images become features: ours, its upper bounds and its peers, in one run.

    make bench          the step, or other SCENARIOS: medians of 5, or of 3 where nothing is judged
    make bench-quick    step and reading on fewer images, once each, under 5 minutes

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

from benchmarks.bench import Bench, Row, Size
from benchmarks.environments import machine, peers_versions, storage
from benchmarks.running import say
from benchmarks.scenarios import SCENARIOS
from benchmarks.tables import markdown
from benchmarks.verdicts import RULES, verdicts

FULL = Size(images=5880, small=20_000, photos=192, thumbnails=100_000, repetitions=5, unjudged=3)
QUICK = Size(
    images=200,
    small=500,
    photos=6,
    thumbnails=1_000,
    repetitions=1,
    unjudged=1,
    thorough=False,
)


def main() -> None:
    """Run the scenarios that are asked for; write JSON and Markdown as each contender ends."""
    arguments = _parser().parse_args()
    size = QUICK if arguments.quick else FULL
    about = machine() | {"peers": peers_versions(arguments.peers_python)}
    results = Results(arguments.output, {"machine": about, "size": vars(size), "scenarios": {}})
    with (
        tempfile.TemporaryDirectory(prefix="fruits-bench-") as name,
        storage(Path(name)) as s3,
    ):
        bench = Bench(
            s3,
            Path(name),
            size,
            images=Path(arguments.images),
            weights=arguments.weights,
            peers=arguments.peers_python,
            done=results.add,
        )
        for scenario in arguments.scenarios:
            say(f"== {scenario}")
            results.begin(scenario)
            times = size.repetitions if scenario in RULES else size.unjudged
            results.end(SCENARIOS[scenario](bench.repeated(times)))
    print(markdown(results.content))


class Results:
    """What was found so far, in a file of JSON and one of Markdown: an interrupted run loses none.

    Of contenders with the same name the last one stays.
    """

    def __init__(self, output: Path, content: dict[str, Any]) -> None:
        self.output, self.content = output, content
        self._scenario = ""

    def begin(self, scenario: str) -> None:
        """Say which scenario the next figures are of."""
        self._scenario = scenario
        self.content["scenarios"][scenario] = {"figures": [], "verdicts": []}

    def add(self, figure: Row) -> None:
        """Add the figure of a contender."""
        figures = {one["name"]: one for one in self.content["scenarios"][self._scenario]["figures"]}
        self.end({"figures": list((figures | {figure["name"]: figure}).values())})

    def end(self, found: dict[str, Any]) -> None:
        """Write what the scenario found, and what it shows."""
        judged = {"verdicts": verdicts(self._scenario, found["figures"])}
        self.content["scenarios"][self._scenario] = found | judged
        self.content["machine"]["load_average_after"] = os.getloadavg()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.output.write_text(json.dumps(self.content, indent=1) + "\n")
        self.output.with_suffix(".md").write_text(markdown(self.content) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="+", choices=SCENARIOS)
    parser.add_argument("--quick", action="store_true", help="few images, once each")
    parser.add_argument("--images", required=True, help="folder of label folders")
    parser.add_argument("--weights", default="auto", help="file.h5, imagenet, seeded or auto")
    parser.add_argument("--peers-python", type=Path, default=Path(".venv-bench/bin/python"))
    parser.add_argument("--output", type=Path, default=Path("var/bench/step.json"))
    return parser


if __name__ == "__main__":
    main()
