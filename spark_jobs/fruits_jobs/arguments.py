"""The command lines of the jobs: the only bridge between Airflow and Spark, importable anywhere."""

from __future__ import annotations

import argparse

ENGINES = ("litert", "tensorflow")
SCALERS = ("none", "standard", "minmax")
REFITS = ("auto", "always", "never")
# So many pixels of an image are decoded at most, which takes 0.5 GB for a moment. A phone's JPEG of
# 200 megapixels is decoded at 1/8, and 3 of them count (fruits_jobs.scaling); of a PNG all do.
DEFAULT_MAX_PIXELS = 120_000_000


def featurize_parser() -> argparse.ArgumentParser:
    """Return the parser of featurize.py's arguments."""
    parser = _parser("featurize.py", "Turn the images of a manifest into features.")
    parser.add_argument("--manifest", type=s3_file, required=True, help="added.parquet to work off")
    parser.add_argument("--features", type=s3_folder, required=True, help="where features go")
    parser.add_argument("--quarantine", type=s3_folder, required=True, help="where bad images go")
    parser.add_argument("--work", type=s3_folder, required=True, help="progress and result")
    parser.add_argument("--weights", type=s3_file, required=True, help="Keras weights, .h5")
    parser.add_argument("--network", type=s3_file, required=True, help="the same network, .tflite")
    parser.add_argument("--rewrites", type=s3_file, help="rows that committed files are to lose")
    parser.add_argument("--backbone", default="MobileNetV2", help="Keras application name")
    parser.add_argument("--engine", choices=ENGINES, default="litert")
    parser.add_argument("--feature-model", required=True, help="name of what makes the features")
    parser.add_argument("--batch", required=True, help="id of the batch")
    parser.add_argument("--region", required=True, help="AWS region of the buckets")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=8,
        help="images that are decoded before the network runs (default: 8)",
    )
    parser.add_argument(
        "--readers", type=positive, default=8, help="threads per core that read (default: 8)"
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        default=DEFAULT_MAX_PIXELS,
        help=f"images with more to decode are quarantined (default: {DEFAULT_MAX_PIXELS:,})",
    )
    return parser


def pca_parser() -> argparse.ArgumentParser:
    """Return the parser of pca.py's arguments."""
    parser = _parser("pca.py", "Reduce features: fit a PCA where it is needed, and project.")
    parser.add_argument("--features", type=s3_file, required=True, help="features.json: the files")
    parser.add_argument("--components", type=s3_folder, required=True, help="where components go")
    parser.add_argument("--model", type=s3_folder, required=True, help="where the model goes")
    parser.add_argument("--model-version", required=True, help="name of the fitted model")
    parser.add_argument("--work", type=s3_folder, required=True, help="progress and result")
    parser.add_argument(
        "--statistics", type=s3_folder, required=True, help="cache of statistics per data file"
    )
    parser.add_argument(
        "--refit",
        choices=REFITS,
        default="auto",
        help="when a new version is fitted (default: when the current one no longer does)",
    )
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--k", type=positive, help="number of components")
    size.add_argument("--variance-target", type=share, help="share of total variance, 0 to 1")
    parser.add_argument(
        "--max-components", type=positive, default=512, help="cap of a variance target's k"
    )
    parser.add_argument("--scaler", choices=SCALERS, default="none")
    parser.add_argument("--batch", required=True, help="id of the batch")
    parser.add_argument("--region", required=True, help="AWS region of the buckets")
    return parser


def s3_file(text: str) -> str:
    """Return *text* if it is s3://bucket/key; ArgumentTypeError if not."""
    bucket, _, key = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://") or not bucket or not key or key.endswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not s3://<bucket>/<key>")
    return text


def s3_folder(text: str) -> str:
    """Return *text* as s3://bucket/folder/ with its last slash; ArgumentTypeError if not S3."""
    return s3_file(text.rstrip("/")) + "/"


def positive(text: str) -> int:
    """Return *text* as an int of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def share(text: str) -> float:
    """Return *text* as a float above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0 and at most 1")
    return value


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    # An abbreviated option would silently change its meaning when a new one is added.
    return argparse.ArgumentParser(prog=name, description=description, allow_abbrev=False)
