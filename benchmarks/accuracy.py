"""How far our features are from plain Keras', and what decoding large JPEGs at a part changes.

    make bench-accuracy IMAGES=<folder> PHOTOS=<folder> WEIGHTS=<file.h5>
    make bench-accuracy BACKBONE=ResNet50 WEIGHTS=seeded

Keras gets the pixels that our engines get. Its features are rounded, too: the last table holds it
and the engines against the same network in float64. Photographs are enlarged as those of `make
bench` are, because few collections have any that are large enough.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.bench import BACKBONE, CACHE, exported
from benchmarks.jobs import LAKE
from benchmarks.workloads import enlarged, photographs
from fruits.weights import resolve_weights
from fruits_jobs.arguments import featurize_parser
from fruits_jobs.engines import Engine, Features, LiteRtEngine, OnnxEngine, TensorFlowEngine
from fruits_jobs.images import UndecodableImage, decode
from fruits_jobs.network_export import checked_images
from fruits_jobs.networks import _preprocessing, body_of, build_network, load_network
from fruits_jobs.scaling import reduce_while_decoding

AT_ONCE = 64
SIZES = ((9, 2000, 1500), (9, 4000, 3000), (3, 6000, 4000))  # photographs, width, height
Pixels = npt.NDArray[np.uint8]


def main() -> None:
    """Print all tables; of the images those only if there are any."""
    arguments = _parser().parse_args()
    backbone = arguments.backbone
    weights = resolve_weights(backbone, arguments.weights, CACHE, LAKE)
    network = exported(weights)
    keras = load_network(backbone, Path(weights.path))
    litert = LiteRtEngine(network.read_bytes())
    engines: dict[str, Engine] = {
        "litert": litert,
        "onnxruntime": OnnxEngine(network.with_suffix(".onnx").read_bytes()),
        "tensorflow": TensorFlowEngine(backbone, keras.get_weights()),
    }
    if arguments.images:
        _compare_images(arguments.images, keras, engines)
        _compare_large(arguments.images, litert)
    _compare_with_float64(backbone, keras, engines)


def _compare_images(folders: list[Path], keras: Any, engines: dict[str, Engine]) -> None:
    """Print how far each engine is from Keras over all images."""
    files = [path for folder in folders for path in photographs(folder)]
    largest = dict.fromkeys(engines, 0.0)
    images = 0
    for pixels in _decoded(files):
        expected = keras.predict(pixels, verbose=0)
        for name, engine in engines.items():
            difference = float(np.abs(_features(engine, pixels) - expected).max())
            largest[name] = max(largest[name], difference)
        images += len(pixels)
    _say("| engine | images | largest difference from Keras |\n|---|---:|---:|")
    for name, difference in largest.items():
        _say(f"| {name} | {images:,} | {difference:.1e} |")
    _say(f"\n{len(files) - images} files could not be decoded." if images < len(files) else "")


def _compare_large(folders: list[Path], litert: Engine) -> None:
    """Print what decoding at a part of the size changes, for photographs large enough."""
    files = [path for folder in folders for path in photographs(folder)]
    _say("| large JPEGs | cosine distance, median | largest | a pixel |\n|---|---:|---:|---:|")
    for name, photos in _large(files, folders[-1]):
        found = np.array([_changes(litert, photo) for photo in photos])
        if len(found):
            distances, off = found[:, 0], int(found[:, 1].max())
            told = f"{np.median(distances):.1e} | {distances.max():.1e} | {off} of 255"
            _say(f"| {len(found)} {name} | {told} |")


def _compare_with_float64(backbone: str, keras: Any, engines: dict[str, Engine]) -> None:
    """Print how far Keras and the engines are from float64, on the exporter's own images."""
    pixels = checked_images()
    exact = _in_float64(backbone, keras.get_weights(), pixels)
    of_keras = np.asarray(keras(pixels, training=False))
    spread = f"up to {exact.max():.1f}, standard deviation {exact.std():.2f}"
    _say(f"\n{backbone} in float64, {len(pixels)} made-up images: features {spread}.\n")
    _say("| float32 | largest difference from float64 | from Keras |\n|---|---:|---:|")
    found = {name: _features(engine, pixels) for name, engine in engines.items()}
    for name, features in ({"Keras": of_keras} | found).items():
        off, apart = np.abs(features - exact).max(), np.abs(features - of_keras).max()
        _say(f"| {name} | {off:.3e} | {apart:.3e} |")


def _in_float64(
    backbone: str, weights: Sequence[npt.NDArray[Any]], pixels: Pixels
) -> npt.NDArray[np.float64]:
    """Return the features of *pixels*, preprocessed and computed in float64 throughout."""
    import keras

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")  # preprocessing follows this one, layers the other
    keras.config.set_dtype_policy("float64")
    try:
        body = body_of(build_network(backbone))
        body.set_weights([np.asarray(weight, np.float64) for weight in weights])
        features = body(_preprocessing()[backbone](pixels.astype(np.float64)), training=False)
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
    assert features.dtype == "float64"
    return np.asarray(features)


def _decoded(files: Iterable[Path]) -> Iterator[Pixels]:
    """Yield the pixels of the *files* that are images: uint8[N, 224, 224, 3], N <= AT_ONCE."""

    def good() -> Iterator[Pixels]:
        for path in files:
            try:
                yield decode(path.read_bytes()).pixels
            except UndecodableImage:
                continue

    found = good()
    while some := list(islice(found, AT_ONCE)):
        yield np.stack(some)


def _features(engine: Engine, pixels: Pixels) -> Features:
    """Return the features as the step computes them: so many images at a time."""
    step = featurize_parser().get_default("batch_size")
    starts = range(0, len(pixels), step)
    return np.concatenate([engine.features(pixels[at : at + step]) for at in starts])


def _large(files: Iterable[Path], folder: Path) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield photographs that are decoded at a part of their size: some found, some enlarged."""
    yield "that are there", (path.read_bytes() for path in files if _is_reduced(path))
    for count, width, height in SIZES:
        made = (data for _, data in enlarged(folder, count, width, height))
        yield f"enlarged to {width} x {height}", made


def _is_reduced(path: Path) -> bool:
    with Image.open(path) as image:
        width, height = image.size
        reduce_while_decoding(image)
        return image.size != (width, height)


def _changes(engine: Engine, photo: bytes) -> tuple[float, int]:
    """Return what reducing *photo* changes: cosine distance of features, largest one of a pixel."""
    reduced = decode(photo).pixels
    with mock.patch("fruits_jobs.images.reduce_while_decoding", lambda one: (0, 0, *one.size)):
        full = decode(photo).pixels
    first, second = engine.features(np.stack([reduced, full])).astype(np.float64)
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return float(1 - cosine), int(np.abs(reduced.astype(np.int16) - full).max())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", nargs="*", type=Path, help="folders of JPEGs (none: skipped)")
    parser.add_argument("--backbone", default=BACKBONE, help="Keras application")
    parser.add_argument("--weights", default="auto", help="file.h5, imagenet, seeded or auto")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
