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

    They share its weights, of which the second has more. None if no tensor of LATE_SIDE or less
    separates such parts.
    """
    import keras

    body = body_of(network)
    narrow = [
        tensor
        for tensor, weights in bottlenecks(body)
        if tensor.shape[1] <= LATE_SIDE and 2 * weights < body.count_params()
    ]
    if not narrow:
        return None
    # Of the widest and highest that with the fewest channels; of equals the last, after its norm.
    middle = min(reversed(narrow), key=lambda tensor: (-tensor.shape[1], tensor.shape[3]))
    pixels, prepared = prepared_pixels(body.name)
    early = keras.Model(body.input, middle)
    return keras.Model(pixels, early(prepared)), keras.Model(middle, body.output)


def bottlenecks(body: keras.Model) -> list[tuple[Any, int]]:
    """Return the tensors float32[N, H, W, C] in *body* that alone carry everything, in order.

    With each comes how many weights are used up to it. No operation after one of them reads
    anything that was made before it. None are found if one of the operations is a model: what
    others read of it are not the tensors that it names as its output.
    """
    import keras

    operations = body.operations
    made = [keras.tree.flatten(operation.output) for operation in operations]
    maker = {id(tensor): number for number, tensors in enumerate(made) for tensor in tensors}
    last_reader = [0] * len(operations)
    for number, operation in enumerate(operations[1:], start=1):
        for tensor in keras.tree.flatten(operation.input):
            if id(tensor) not in maker:
                return []
            last_reader[maker[id(tensor)]] = number
    found, reach, weights = [], 0, 0
    for number, (operation, tensors) in enumerate(zip(operations[:-1], made, strict=False)):
        weights += operation.count_params() if isinstance(operation, keras.Layer) else 0
        if number and reach <= number and [len(tensor.shape) for tensor in tensors] == [4]:
            found.append((tensors[0], weights))
        reach = max(reach, last_reader[number])
    return found
