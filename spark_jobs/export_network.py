"""Command that makes weights and exports their network, apart so that TensorFlow stays in it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fruits_jobs.networks import (
    UnknownBackbone,
    backbones,
    feature_model_name,
    load_network,
    quiet_tensorflow,
    sha256_of,
)
from fruits_jobs.sessions import run_step


def main() -> None:
    """Run one subcommand; stdout's last line is its result as JSON."""
    arguments = parser().parse_args()
    quiet_tensorflow()

    def step() -> None:
        with _stdout_to_stderr() as stdout:
            result = arguments.command(arguments)
            stdout.write(json.dumps(result) + "\n")

    sys.exit(run_step("export_network", step))


def parser() -> argparse.ArgumentParser:
    """Return the parser of this command's arguments."""
    top = argparse.ArgumentParser(prog="export_network.py", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="weights|network")
    weights = commands.add_parser("weights", help="make or locate a weights file")
    weights.add_argument("--backbone", default="MobileNetV2", help="Keras application name")
    weights.add_argument("--weights", required=True, help="FILE, imagenet or seeded")
    weights.add_argument("--output-folder", type=Path, required=True, help="for seeded weights")
    weights.set_defaults(command=locate_weights)
    network = commands.add_parser("network", help="export the network with these weights")
    network.add_argument("--backbone", default="MobileNetV2", help="Keras application name")
    network.add_argument("--weights", type=Path, required=True, help="FILE")
    network.add_argument(
        "--output", type=Path, required=True, nargs="+", help="FILE.tflite, FILE.onnx or both"
    )
    network.set_defaults(command=export)
    return top


def locate_weights(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return path, hash, feature_model and source of weights that load into the backbone."""
    backbone = arguments.backbone
    if backbone not in backbones():
        raise UnknownBackbone(backbone)
    source = arguments.weights if arguments.weights in ("imagenet", "seeded") else "file"
    path = Path(arguments.weights)
    if source == "imagenet":
        from fruits_jobs.imagenet_weights import download_imagenet_weights

        path = download_imagenet_weights(backbone)
    elif source == "seeded":
        from fruits_jobs.seeded_weights import write_seeded_weights

        path = arguments.output_folder / f"{backbone}-seeded.weights.h5"
        write_seeded_weights(backbone, path)
    elif not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    load_network(backbone, path)
    digest = sha256_of(path.read_bytes())
    return {
        "weights": str(path.resolve()),
        "sha256": digest,
        "feature_model": feature_model_name(backbone, digest),
        "source": source,
    }


def export(arguments: argparse.Namespace) -> dict[str, Any]:
    """Export the network and return its paths and their largest differences from Keras."""
    from fruits_jobs.network_export import export_networks

    differences = export_networks(arguments.backbone, arguments.weights, arguments.output)
    networks = [str(output.resolve()) for output in arguments.output]
    return {"networks": networks, "largest_differences": differences}


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[Any]:
    """Yield the real stdout while everything else that prints to it, C code too, goes to stderr."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as stdout:
        os.dup2(2, 1)
        try:
            yield stdout
        finally:
            sys.stdout.flush()
            stdout.flush()
            os.dup2(stdout.fileno(), 1)


if __name__ == "__main__":
    main()
