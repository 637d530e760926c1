"""What of the lake goes with age: objects that name images, or show them, and serve one run only.

Tables are not here: of them everything goes that no snapshot needs (`fruits.references`).
"""

from __future__ import annotations

# Lists of images, results and staging of attempts, logs of clusters.
TRANSIENT = ("manifests/", "attempts/", "logs/")
# Of a report and of a model this is kept: counts, costs and matrices of all images together. What
# goes are pages, samples and drawings in which each image is a point.
KEPT_OF_REPORT = ("report.json",)
KEPT_OF_MODEL = (
    *("PCAModel", "pca.npz", "model.json"),
    *("explained_variance.png", "explained_variance.svg"),
)


def goes_with_age(key: str) -> bool:
    """Say whether the object, at *key* under the lake, names or shows images, for no lasting use.

    What begins in a way that nothing here knows is somebody else's, and stays.
    """
    if key.startswith(TRANSIENT):
        return True
    match key.split("/"):
        case ["reports", _, name, *_]:
            return name not in KEPT_OF_REPORT
        case ["models", "pca", _, name, *_]:
            return name not in KEPT_OF_MODEL
        case _:
            return False
