"""Command that writes one ONNX model from pixels to components, of a network and a PCA version."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fruits_jobs.arguments import s3_file, s3_folder
from fruits_jobs.objects import read_bytes
from fruits_jobs.onnx_components import with_components
from fruits_jobs.pca_models import read_model
from fruits_jobs.progress import say
from fruits_jobs.sessions import run_step


def main() -> None:
    """Run the command line and end the process with its exit code."""
    arguments = parser().parse_args()
    sys.exit(run_step("export_components", lambda: export(arguments)))


def parser() -> argparse.ArgumentParser:
    """Return the parser of this command's arguments."""
    top = argparse.ArgumentParser(prog="export_components.py", description=__doc__)
    top.add_argument("--network", type=s3_file, required=True, help="the exported network, .onnx")
    top.add_argument("--model", type=s3_folder, required=True, help="folder of the PCA version")
    top.add_argument("--output", type=Path, required=True, help="FILE.onnx")
    top.add_argument("--region", default="eu-west-3", help="AWS region of the lake")
    return top


def export(arguments: argparse.Namespace) -> None:
    """Write the model, whole or not at all."""
    fitted = read_model(arguments.model, arguments.region)
    model, version = fitted.description["feature_model"], fitted.description["model_version"]
    network = read_bytes(arguments.network, arguments.region)
    content = with_components(network, fitted.basis, model, version)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.output.with_name(f"{arguments.output.name}.partial")
    partial.write_bytes(content)
    partial.replace(arguments.output)
    say(f"{arguments.output}: {fitted.basis.k} components of {model}, version {version}")


if __name__ == "__main__":
    main()
