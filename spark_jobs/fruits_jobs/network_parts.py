"""A network in two parts, so that its late layers take several images at once.

Early layers make large tensors with few weights: several images at once would only push each other
out of the processor's cache. Late layers make small tensors with many weights, which one image
after the other reads from memory again. docs/decisions/0019 has the measurements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fruits_jobs.networks import body_of, prepared_pixels
from fruits_jobs.scaling import SIDE

if TYPE_CHECKING:
    import keras

# MobileNetV2's tensors are that wide and high before the last of its five reductions.
LATE_SIDE = SIDE // 16


def early_and_late(network: keras.Model) -> tuple[keras.Model, keras.Model] | None:
    """Return *network* as two models, the second of which takes what the first makes.

    They share its weights. None if no tensor of LATE_SIDE or less separates them.
    """
    import keras

    body = body_of(network)
    narrow = [tensor for tensor in bottlenecks(body) if tensor.shape[1] <= LATE_SIDE]
    if not narrow:
        return None
    widest = [tensor for tensor in narrow if tensor.shape[1] == narrow[0].shape[1]]
    middle = min(reversed(widest), key=_floats)  # of equals the last: after a batch normalization
    pixels, prepared = prepared_pixels(body.name)
    early = keras.Model(body.input, middle)
    return keras.Model(pixels, early(prepared)), keras.Model(middle, body.output)


def bottlenecks(body: keras.Model) -> list[Any]:
    """Return the tensors float32[N, H, W, C] in *body* that alone carry everything, in order.

    No operation after one of them reads anything that was made before it.
    """
    import keras

    operations = body.operations
    maker = {
        id(tensor): number
        for number, operation in enumerate(operations)
        for tensor in keras.tree.flatten(operation.output)
    }
    last_reader = [0] * len(operations)
    for number, operation in enumerate(operations[1:], start=1):
        for tensor in keras.tree.flatten(operation.input):
            last_reader[maker[id(tensor)]] = number
    found, reach = [], 0
    for number, operation in enumerate(operations[:-1]):
        if number and reach <= number and len(operation.output.shape) == 4:
            found.append(operation.output)
        reach = max(reach, last_reader[number])
    return found


def _floats(tensor: Any) -> int:
    _, height, width, channels = tensor.shape
    return int(height * width * channels)
