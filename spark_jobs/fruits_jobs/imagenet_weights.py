"""Keras' own ImageNet weights as a file, because a feature is named after the file's hash."""

from __future__ import annotations

import socket
from pathlib import Path

CONNECT_SECONDS = 15


class DownloadFailed(RuntimeError):  # noqa: N818
    """Keras could not download the weights of *backbone*."""

    def __init__(self, backbone: str, error: Exception) -> None:
        text = " ".join(str(error).split())
        super().__init__(
            f"the ImageNet weights of {backbone} cannot be downloaded ({text}). Download the"
            " '…_no_top.h5' file elsewhere and give its path, put it into ~/.keras/models, or use"
            " 'seeded' weights for a trial without meaning"
        )
        self.backbone = backbone


def download_imagenet_weights(backbone: str) -> Path:
    """Return the path of Keras' file in its cache, downloaded if it is not there yet."""
    import keras
    from keras.src.utils import file_utils

    located: list[str] = []
    get_file = file_utils.get_file

    def remember(*names: object, **options: object) -> str:
        located.append(get_file(*names, **options))
        return located[-1]

    # Keras tells nobody where it put the file; the name differs from application to application.
    file_utils.get_file = remember
    socket.setdefaulttimeout(CONNECT_SECONDS)  # urllib would wait for ever
    try:
        shape = (224, 224, 3)
        getattr(keras.applications, backbone)(
            include_top=False, pooling="avg", weights="imagenet", input_shape=shape
        )
    except Exception as error:
        raise DownloadFailed(backbone, error) from error
    finally:
        file_utils.get_file = get_file
        socket.setdefaulttimeout(None)
    return Path(located[-1])
