"""What of the lake goes with age: which objects name images, or show them, and serve one run only.

Tables are not here: of them everything goes that no snapshot needs (`fruits.references`).
"""

from __future__ import annotations

# Lists of images, results and staging of attempts, logs of clusters, exports of tables.
TRANSIENT = ("manifests/", "attempts/", "logs/", "exports/")
# Of a report and of a model this is kept: counts, costs and matrices of all images together.
KEPT_OF_REPORT = ("report.json",)
KEPT_OF_MODEL = ("PCAModel", "pca.npz", "model.json")


def goes_with_age(key: str) -> bool:
    """Say whether the object *key* of the lake names or shows images and is of no lasting use.

    What begins in a way that nothing here knows is somebody else's, and stays.
    """
    if key.startswith(TRANSIENT):
        return True
    parts = key.split("/")
    match parts:
        case ["reports", _, name, *_]:
            return name not in KEPT_OF_REPORT
        case ["models", "pca", _, name, *_]:
            # Samples and plots of single images.
            return name not in KEPT_OF_MODEL
        case _:
            return False
