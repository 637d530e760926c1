"""What a cluster runs, uploaded under names that hold the content's hash: only what is missing."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

from fruits import job_package
from fruits.networks import staged_weights_uri, write_origin
from fruits.objects import download, exists, write_bytes
from fruits.settings import Engine
from fruits.steps import StagedJobs
from fruits.weights import Weights, export_network
from fruits.wheelhouse import wheelhouse_uri

log = logging.getLogger(__name__)

# Of one part, before decision 0019, it was .tflite: neither version's jobs may find the other's.
LITERT_SUFFIX = ".parts.tflite"
NETWORKS = (".onnx", LITERT_SUFFIX)


def stage_jobs(
    lake: str,
    region: str,
    weights: Weights,
    *,
    engine: Engine = Engine.LITERT,
) -> StagedJobs:
    """Upload entry points, job package, weights and exported networks to *lake*; return their URIs.

    The network is there for the step (.parts.tflite) and for those who read the lake (.onnx).
    An object that is there already is not sent again: its name says that it is the same. The
    wheelhouse of *engine* is only named: `make aws-publish` fills it, where nodes need it.
    """
    jobs = f"{lake}/jobs/{job_package.package_hash()}"
    network = f"{lake}/networks/{weights.feature_model}"
    staged = StagedJobs(
        featurize=f"{jobs}/featurize.py",
        pca=f"{jobs}/pca.py",
        package=f"{jobs}/fruits_jobs.zip",
        weights=staged_weights_uri(lake, weights.sha256, Path(weights.path).name),
        network=f"{network}{LITERT_SUFFIX}",
        limit_lifetime=_script_uri(lake, job_package.LIMIT_LIFETIME),
        install_python_env=_script_uri(lake, job_package.INSTALL_PYTHON_ENV),
        wheelhouse=wheelhouse_uri(lake, engine),
    )
    contents = {
        staged.featurize: job_package.ENTRY_POINTS["featurize"].read_bytes,
        staged.pca: job_package.ENTRY_POINTS["pca"].read_bytes,
        staged.package: job_package.package_zip,
        staged.weights: Path(weights.path).read_bytes,
        staged.limit_lifetime: job_package.LIMIT_LIFETIME.read_bytes,
        staged.install_python_env: job_package.INSTALL_PYTHON_ENV.read_bytes,
    }
    for uri, content in contents.items():
        if not exists(uri, region):
            write_bytes(uri, content(), region)
            log.info("Staged %s", uri)
    missing = [suffix for suffix in NETWORKS if not exists(f"{network}{suffix}", region)]
    if missing:
        for suffix, model in _exported(weights, staged.weights, missing).items():
            write_bytes(f"{network}{suffix}", model, region)
            log.info("Staged %s%s", network, suffix)
    write_origin(lake, weights)
    return staged


def _script_uri(lake: str, script: Path) -> str:
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    return f"{lake}/bootstrap/{digest}/{script.name}"


def _exported(weights: Weights, weights_uri: str, suffixes: list[str]) -> dict[str, bytes]:
    log.info("Exporting %s: once for these weights", weights.feature_model)
    with tempfile.TemporaryDirectory() as folder:
        if not Path(weights.path).is_file():  # an earlier run, or another machine, had it
            weights = replace(weights, path=str(Path(folder) / Path(weights.path).name))
            download(weights_uri, Path(weights.path))
        files = {suffix: Path(folder) / f"network{suffix}" for suffix in suffixes}
        export_network(weights, *files.values())
        return {suffix: file.read_bytes() for suffix, file in files.items()}
