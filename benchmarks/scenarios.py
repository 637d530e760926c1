"""What `make bench` compares: each scenario runs some contenders and returns their figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.bench import Bench, Row
from benchmarks.counting import counted
from benchmarks.verdicts import AGAIN
from benchmarks.workloads import Workload

Start = Callable[..., Row]  # Bench.figure or Bench.peer


def step(bench: Bench) -> dict[str, Any]:
    """Compare ours, its bounds and its peers on the same small images."""
    work = bench.small(bench.size.images)
    cold = {"warm_ups": 0, "repetitions": min(3, bench.size.repetitions)}
    rows = [
        bench.figure("model only (LiteRT)", "model_only", work),
        bench.figure("the same loop without Spark", "loop", work),
        bench.figure("ours, step, steady state", "ours", work),
        bench.figure("ours, step, cold", "cold", work, **cold),
        bench.figure("ours, S3 to committed tables, cold", "end_to_end", work, **cold),
        *_peers(bench, work, lambda: bench.small(bench.size.images // 3)),
    ]
    if bench.size.thorough:  # had the machine changed meanwhile, these would tell
        rows += [
            bench.figure(f"ours, step, steady state{AGAIN}", "ours", work),
            bench.figure(f"the same loop without Spark{AGAIN}", "loop", work),
        ]
    return _table(rows)


def _peers(bench: Bench, work: Workload, trial: Callable[[], Workload]) -> list[Row]:
    thorough = bench.size.thorough
    # The notebook alone would warm up for half a minute of a quick run.
    warm_ups = {} if thorough else {"warm_ups": 0}

    def forms(start: Start, name: str, program: str, *forms: str) -> list[Row]:
        """Run the last form; if it is thorough, the one that is fastest over the images of *trial*.

        Of the others their trial is returned.
        """

        def run(form: str, images: Workload, **more: Any) -> Row:
            return start(f"{name}, {form}", program, images, options={"form": form}, **more)

        if not thorough:
            return [run(forms[-1], work, **warm_ups)]
        rows = {form: run(form, trial(), repetitions=1) for form in forms}
        fastest = max(forms, key=lambda form: rows[form].get("images_per_second", 0.0))
        return list((rows | {fastest: run(fastest, work)}).values())

    return [
        bench.figure("notebook-style, Keras predict", "notebook", work, **warm_ups),
        *forms(bench.figure, "predict_batch_udf", "predict_batch", "tensor", "bytes"),
        *forms(bench.peer, "Ray Data", "ray_data", "images", "bytes"),
        *forms(bench.peer, "Daft", "daft_frame", "images", "bytes"),
    ]


def engines(bench: Bench) -> dict[str, Any]:
    """Run each engine alone on pixels in memory, at several batch sizes."""
    work = bench.small(bench.size.images // 6)  # nothing to warm up but the network
    wanted = [
        ("litert", 8),
        ("litert-whole", 1),
        *(("onnxruntime", batch) for batch in (1, 2, 4, 8, 32)),
        *(("tensorflow", batch) for batch in (2, 8, 32)),
        *(("keras-predict", batch) for batch in (1, 64)),
    ]
    return _table(
        [
            bench.figure(
                f"{engine}, batch {batch}",
                "model_only",
                work,
                options={"engine": engine, "batch": batch},
            )
            for engine, batch in wanted
        ]
    )


def large(bench: Bench) -> dict[str, Any]:
    """Compare ours and its peers on photographs of 12 megapixels."""
    work = bench.large(bench.size.photos, 4000, 3000)
    return _table(
        [
            bench.figure("the same loop without Spark", "loop", work),
            bench.figure("ours, step, steady state", "ours", work),
            *_peers(bench, work, lambda: bench.large(bench.size.photos // 3, 4000, 3000)),
        ]
    )


def cores(bench: Bench) -> dict[str, Any]:
    """Run ours on one core, and on two."""
    work = bench.small(bench.size.images)
    return _table(
        [
            bench.figure(f"ours, step, {count} of the cores", "ours", work, cores=count)
            for count in (1, 2)
        ]
    )


def reading(bench: Bench) -> dict[str, Any]:
    """Read alone, and see what it adds to the step: small objects from S3 and from memory."""
    work = bench.small(bench.size.small)
    rows = [
        bench.figure("reading only, ours", "read_ours", work),
        bench.figure("reading only, binaryFile (from the disk)", "read_binary", work),
        bench.figure("step, bytes already in memory", "ours_in_memory", work),
        bench.figure("step, bytes from S3", "ours", work),
    ]
    requests = counted(bench, bench.size.small) if bench.size.thorough else {}
    return _table(rows) | {"requests": requests}


def memory(bench: Bench) -> dict[str, Any]:
    """Find the largest Python worker: with huge photographs, many thumbnails, and bombs."""
    photos = bench.large(bench.size.photos, 6000, 4000)
    thumbnails = bench.small(bench.size.thumbnails)
    bombs = bench.bombs()
    once = {"repetitions": 1, "warm_ups": 0}
    return _table(
        [
            bench.figure("ours, 24 megapixels", "ours", photos, **once),
            bench.figure(f"ours, {thumbnails.images:,} thumbnails", "ours", thumbnails, **once),
            bench.figure("ours, PNG bombs of 300 megapixels", "ours", bombs, **once),
        ]
    )


def progress(bench: Bench) -> dict[str, Any]:
    """Run the step with telling its progress, and without."""
    work = bench.small(bench.size.images)
    silent = {"progress": False}
    return _table(
        [
            bench.figure("ours, with progress", "ours", work),
            bench.figure("ours, silent", "ours", work, options=silent),
        ]
    )


def _table(rows: list[Row]) -> dict[str, Any]:
    return {"figures": rows}


SCENARIOS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "step": step,
    "engines": engines,
    "reading": reading,
    "large": large,
    "cores": cores,
    "memory": memory,
    "progress": progress,
}
