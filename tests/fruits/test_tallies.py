"""What came in and what broke: counted whole, shown bounded."""

from __future__ import annotations

from typing import Any

from pyiceberg.catalog import Catalog

from fruits.results import read_featurize_result
from fruits.tallies import EXAMPLES_SHOWN, LABELS_SHOWN, Tally, tally
from tests.fruits.lake_support import QUARANTINE, featurized, manifest_uri, put, sensed, written

HOSTILE = '<img src=x onerror="alert(1)">'


def tally_of(catalog: Catalog, keys: list[str], **outcome: Any) -> Tally:
    """Return the tally of a batch over *keys*, whose step had that *outcome*."""
    for key in keys:
        put(key)
    sensed(catalog, "b")
    result = read_featurize_result(featurized("b", **outcome))
    return tally(manifest_uri("b"), result)


def test_labels_are_counted_the_largest_first(catalog: Catalog) -> None:
    """Each label has its images and how many of them broke; a key without a folder has none."""
    keys = ["Kiwi/1.jpg", "Kiwi/2.jpg", "Kiwi/3.jpg", "Apple/1.jpg", "Fig/1.jpg", "loose.jpg"]

    found = tally_of(catalog, keys, broken=["Kiwi/2.jpg"])

    assert [(one.label, one.added, one.quarantined) for one in found.labels] == [
        ("Kiwi", 3, 1),
        ("", 1, 0),
        ("Apple", 1, 0),
        ("Fig", 1, 0),
    ]
    assert (found.label_count, found.unlisted, found.broken_count) == (4, 0, 1)


def test_without_a_result_only_the_arrivals_are_known(catalog: Catalog) -> None:
    """A batch whose featurize step failed still says what came in."""
    put("Kiwi/1.jpg")
    sensed(catalog, "b")

    found = tally(manifest_uri("b"), None)

    assert [one.label for one in found.labels] == ["Kiwi"]
    assert (found.broken, found.broken_count) == ((), 0)


def test_however_much_broke_a_hundred_examples_are_shown(catalog: Catalog) -> None:
    """Thousands of broken images are counted, some of each reason shown, the rest left out."""
    reasons = {"truncated": 3000, "not_an_image": 40, HOSTILE: 1}
    rows = [
        {"image_key": f"K/{reason}-{number:04}.jpg", "label": "K", "reason": reason}
        | {"size_bytes": 1, "error_message": HOSTILE}
        for reason, count in reasons.items()
        for number in range(count)
    ]
    listing = written("quarantine/data/b/1", QUARANTINE, rows, 3) | {"reasons": reasons}

    found = tally_of(
        catalog, ["K/1.jpg"], edit_result=lambda result: result.update(quarantine=listing)
    )

    assert found.broken_count == 3041
    assert len(found.broken) <= EXAMPLES_SHOWN
    assert {image.reason for image in found.broken} == set(reasons)
    assert found.labels[0].quarantined == 3041


def test_however_many_labels_a_hundred_are_listed(catalog: Catalog) -> None:
    """The largest labels are listed; the images of all others are one number."""
    keys = [f"label {number:03}/1.jpg" for number in range(LABELS_SHOWN + 20)]

    found = tally_of(catalog, [*keys, "label 119/2.jpg"])

    assert (len(found.labels), found.label_count, found.unlisted) == (LABELS_SHOWN, 120, 20)
    assert (found.labels[0].label, found.labels[0].added) == ("label 119", 2)
