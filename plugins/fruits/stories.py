"""What a task tells in its log, in a line or two: what it found, decided and changed.

Ids and URIs are written so that they can be pasted into a console or a command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fruits.cluster_sizing import CAP_SHARE
from fruits.wording import count, money, plural, share


def sensed(found: Mapping[str, Any], images_uri: str, manifest_uri: str) -> Iterator[str]:
    """Tell what a look into the bucket found."""
    counts, weights = found["counts"], found["weights"]
    yield (
        f"{images_uri} holds {plural(counts['listed'], 'image')}: {count(counts['added'])} to "
        f"featurize ({count(counts['replaced'])} replaced{_retried(counts)}), "
        f"{count(counts['unchanged'])} known, "
        f"{count(counts['deferred'])} left for the next run. {count(counts['deleted'])} are gone, "
        f"{plural(counts['ignored'], 'other object')} ignored"
    )
    yield f"The network is {found['feature_model']}, its weights are from: {weights['source']}"
    if found["beside"]:
        yield "It is computed beside the current one: readers see nothing of it before a switch"
    if found["overruled"]:
        yield overruled(found["overruled"])
    yield f"The lists of what is new and gone are under {manifest_uri}/"


def overruled(asked: str) -> str:
    """Tell that an ordinary run goes on with the tables' network, and what does otherwise."""
    return (
        f"The settings ask for {asked}, but the tables are of this network: a run with Reprocess "
        "computes another one beside it, and then it can be switched to (docs/reprocess.md)"
    )


def _retried(counts: Mapping[str, Any]) -> str:
    retried = counts.get("retried")
    return f", {count(retried)} tried again from quarantine" if retried else ""


def to_compute(found: Mapping[str, Any]) -> str:
    """Tell whether a cluster is needed, and what for."""
    if found["featurize"]:
        return f"A cluster is needed: {plural(found['counts']['added'], 'image')} to featurize"
    if found["reduce"]:
        return "A cluster is needed: features of an earlier run have no components yet"
    return "Nothing to compute, so no cluster is created"


def removed(rows: Mapping[str, int]) -> str:
    """Tell what was deleted from the tables."""
    if not any(rows.values()):
        return "No image is gone: nothing was deleted"
    told = ", ".join(f"{count(number)} of {table}" for table, number in rows.items())
    return f"Deleted the rows of images that are gone: {told}"


def cut(room: Any, deferred: int, settings: Any) -> str:
    """Tell that not all of what is new would end in time, how that is known, and what helps."""
    return (
        f"The batch was cut: with {plural(deferred, 'newer image')} it is not expected to end "
        f"within {_planned(settings)} on {plural(room.workers, 'worker')} of "
        f"{settings.worker_instance_type} at {_speed(room.speed)}. They are left for the next run. "
        "To take more at once raise FRUITS_WORKERS, FRUITS_CAP_MINUTES, or FRUITS_CAP_MONEY where "
        "it holds the workers down"
    )


def sized(sizing: Any, load: Any, settings: Any) -> str:
    """Tell how many workers were chosen, and from what."""
    return (
        f"{plural(sizing.workers, 'worker')} of {settings.worker_instance_type} (of at most "
        f"{settings.workers}): {plural(load.images, 'image')} of {load.size_bytes / 1e6:,.0f} MB "
        f"are expected to take {sizing.seconds:.0f} s and the cluster to cost "
        f"{money(sizing.amount, sizing.currency)}, at {_speed(sizing.speed)}"
    )


def too_long(room: Any, settings: Any) -> str:
    """Tell that a batch may be cancelled at its cap, and what would help."""
    if room.limit is None:
        return (
            f"Not even one image is expected to end within {_planned(settings)}, so the batch was "
            "not cut. It may be cancelled at the cap with nothing committed: set "
            f"FRUITS_CAP_MINUTES to {room.least_minutes} or more"
        )
    return (
        f"That is not expected to end within {_planned(settings)}, and may be cancelled with "
        "nothing committed: raise FRUITS_WORKERS or the caps, or clear sense_changes, which cuts "
        "the batch"
    )


def _planned(settings: Any) -> str:
    return f"{CAP_SHARE:.0%} of the cap of {settings.cap_minutes} min"


def _speed(speed: Any) -> str:
    known = f"measured in {plural(speed.runs, 'batch', 'batches')}" if speed.runs else "assumed"
    told = f"{speed.rate:.1f} inferences/s per vCPU, {known}"
    if not speed.overdue:
        return told
    return f"{told} and lowered for {plural(speed.overdue, 'batch', 'batches')} not done in time"


def reserved(entry: Any, month: float, cap: float, cap_minutes: int, arithmetic: str) -> str:
    """Tell what was promised, and what the month comes to with it."""
    return (
        f"Promised generation {entry.generation} of {entry.token} {money(entry.worst_case)} "
        f"{entry.currency} for at most {cap_minutes} min: {arithmetic}. With it {entry.month} "
        f"comes to {money(month)} of at most {money(cap)} {entry.currency}"
    )


def committed_features(done: Mapping[str, Any]) -> Iterator[str]:
    """Tell what became of the images, and where the broken ones are."""
    took = f" of a step of {done['seconds']:.0f} s" if done.get("seconds") else ""
    yield (
        f"Committed {plural(done['features'], 'feature vector')}{took}, in place of "
        f"{plural(done['replaced'], 'older row')}; {plural(done['changed'], 'image')} changed "
        "meanwhile and will be seen again"
    )
    if done["quarantined"]:
        reasons = ", ".join(f"{count(n)} {reason}" for reason, n in done["reasons"].items())
        told = plural(done["quarantined"], "image")
        yield f"{told} cannot be decoded ({reasons}): they are in the table quarantine"


def committed_components(done: Mapping[str, Any]) -> str:
    """Tell which model version is in use now."""
    became = "fitted" if done["fitted"] else "kept"
    return (
        f"Model version {done['model_version']} was {became}: {done['reason']}. Its {done['k']} "
        f"components keep {share(done['explained_variance_kept'])} of the variance; "
        f"{plural(done['projected'], 'image')} projected"
    )


def feature_model(model: Mapping[str, Any]) -> str:
    """Tell of one feature model what it has and lacks."""
    role = "current" if model["current"] else "before it" if model["previous"] else "beside it"
    lacks = [
        f"{plural(model[name], 'image')} {of_what}"
        for name, of_what in (
            ("without_features", "of the current one without features"),
            ("without_components", "without components"),
        )
        if model[name]
    ]
    return (
        f"{model['name']} ({role}): {plural(model['images'], 'image')}, components of "
        f"{model['model_version'] or 'no version'}; {' and '.join(lacks) or 'complete'}"
    )


def switched(done: Mapping[str, Any]) -> str:
    """Tell what readers read now, and what they read before."""
    if done["before"] == done["after"]:
        return f"{done['after']} is the current feature model already"
    return (
        f"Readers and runs go by {done['after']} now, with components of "
        f"{done['model_version'] or 'no version'}. To go back: switch to {done['before']}"
    )


def ended(token: str, told: Mapping[str, Any]) -> str:
    """Tell what a run's clusters lived and cost."""
    clusters = ", ".join(told["clusters"])
    if not clusters:
        return f"No cluster carries token {token}: nothing to end"
    cost = money(told["cost"], told["currency"])
    promise = money(told["promised"], told["currency"])
    return f"Ended {clusters} after {told['seconds']:.0f} s: {cost} of the promised {promise}"
