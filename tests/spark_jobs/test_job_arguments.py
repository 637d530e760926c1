"""The jobs' command lines: what Airflow may say to Spark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fruits_jobs.arguments import featurize_parser, pca_parser

ROOT = Path(__file__).resolve().parents[2]
FEATURIZE = {
    "manifest": "s3://lake/manifests/b/added.parquet",
    "features": "s3://lake/tables/features/data/b/1/",
    "quarantine": "s3://lake/tables/quarantine/data/b/1/",
    "work": "s3://lake/attempts/b/featurize-1/",
    "weights": "s3://lake/weights/x/w.h5",
    "network": "s3://lake/networks/n.parts.tflite",
    "feature-model": "n",
    "batch": "b",
    "region": "eu-west-3",
}
PCA = {
    "features": "s3://lake/attempts/b/pca-1/features.json",
    "components": "s3://lake/tables/components/data/b/1/",
    "model": "s3://lake/models/pca/b-1/",
    "model-version": "b-1",
    "work": "s3://lake/attempts/b/pca-1/",
    "statistics": "s3://lake/statistics/",
    "batch": "b",
    "region": "eu-west-3",
}


def words(options: dict[str, str], **more: str) -> list[str]:
    """Return options as a command line; an underscore in a name of *more* is a dash."""
    named = options | {name.replace("_", "-"): value for name, value in more.items()}
    return [word for name, value in named.items() for word in (f"--{name}", value)]


def test_what_is_not_said_has_the_documented_default():
    """MobileNetV2 on LiteRT is what a batch gets that asks for nothing else."""
    arguments = featurize_parser().parse_args(words(FEATURIZE))

    assert (arguments.backbone, arguments.engine) == ("MobileNetV2", "litert")
    assert arguments.max_pixels == 120_000_000


def test_a_folder_keeps_exactly_one_last_slash():
    """Names are appended to folders, so a forgotten slash must not glue them together."""
    arguments = featurize_parser().parse_args(words(FEATURIZE, work="s3://lake/attempts/b"))

    assert arguments.work == "s3://lake/attempts/b/"


@pytest.mark.parametrize(
    "wrong",
    [
        {"manifest": "/local/added.parquet"},
        {"manifest": "s3://bucket-only"},
        {"features": "s3a://lake/x/"},
        {"engine": "torch"},
        {"batch_size": "0"},
        {"readers": "many"},
        {"max_pixels": "-1"},
    ],
)
def test_a_wrong_value_ends_before_spark_starts(wrong, capsys):
    """A wrong value fails while nothing has been paid for, and names the option."""
    with pytest.raises(SystemExit):
        featurize_parser().parse_args(words(FEATURIZE, **wrong))

    assert f"--{next(iter(wrong)).replace('_', '-')}" in capsys.readouterr().err


def test_an_abbreviated_option_is_refused():
    """An abbreviation would change its meaning when a new option is added."""
    with pytest.raises(SystemExit):
        featurize_parser().parse_args([*words(FEATURIZE), "--back", "ResNet50"])


@pytest.mark.parametrize(
    ("size", "expected"),
    [({"k": "12"}, (12, None)), ({"variance_target": "0.95"}, (None, 0.95))],
)
def test_pca_takes_k_or_a_variance_target(size, expected):
    """Exactly one of the two says how many components there are."""
    arguments = pca_parser().parse_args(words(PCA, **size))

    assert (arguments.k, arguments.variance_target) == expected


@pytest.mark.parametrize(
    "size",
    [
        {},
        {"k": "12", "variance_target": "0.95"},
        {"k": "0"},
        {"variance_target": "1.5"},
        {"variance_target": "0"},
        {"variance_target": "nan"},
        {"variance_target": "most"},
    ],
)
def test_pca_refuses_any_other_size(size):
    """Neither, both, and shares that are none are mistakes of who built the step."""
    with pytest.raises(SystemExit):
        pca_parser().parse_args(words(PCA, **size))


def test_the_parsers_need_none_of_the_heavy_libraries():
    """Airflow's tests feed built steps to these parsers without Spark or TensorFlow."""
    code = (
        "import sys, fruits_jobs.arguments\n"
        "heavy = {'pyspark', 'tensorflow', 'keras', 'numpy', 'pyarrow', 'obstore', 'PIL'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "spark_jobs", check=False)

    assert done.returncode == 0
