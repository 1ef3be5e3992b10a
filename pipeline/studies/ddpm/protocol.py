"""How the numbers of a table of the study `ddpm` came about, and whether they can be compared."""

from collections.abc import Sequence

from pipeline.report.protocol import show_key, show_shared
from pipeline.studies.ddpm.study import DdpmRecord, Protocol, SnapshotScores

_FREE = {"weights", "sets", "versions"}
"""Fields of a protocol in which arms may differ and be compared all the same."""


def _show_steps(snapshots: Sequence[SnapshotScores]) -> str:
    first, last = snapshots[0].step, snapshots[-1].step
    return f"{len(snapshots)}, after {first} to {last} steps" if len(snapshots) > 1 else f"the last alone, {last} steps"


def _show_versions(records: Sequence[DdpmRecord]) -> str:
    names = sorted({name for record in records for name in record.protocol.versions})
    found = {name: [record.protocol.versions.get(name, "unknown") for record in records] for name in names}
    return ", ".join(f"{name} {show_shared(versions)}" for name, versions in found.items())


def describe(records: Sequence[DdpmRecord], embedded: bool) -> list[str]:
    """The protocol in words, a line each.

    Args:
        embedded: whether the features are those of a small classifier of our own.
    """
    names = (
        *("images", "sets", "reference_images", "extractor", "extractor_sha256", "features", "isc_splits"),
        *("kid_subsets", "kid_subset_size"),
    )
    found = {name: show_key(records, f"protocol.{name}") for name in names}
    drawn = ("sampler", "clip", "labels", "variance", "quantisation", "weights")
    lines = [
        f"sample sets: {found['sets']}, of {found['images']} images each, from the averaged weights after "
        f"{show_key(records, 'training_steps')} training steps; a run's value is the mean over its sets; reference: "
        f"{found['reference_images']} images, all of the training split, unflipped",
        f"{show_key(records, 'protocol.sampling_steps')} sampling steps; "
        + ", ".join(f"{name} {show_key(records, f'protocol.{name}')}" for name in drawn),
        f"snapshots with samples: {show_shared([_show_steps(record.snapshots) for record in records])}; "
        "one sample set each",
        f"features ({found['features']}) and logits of `{found['extractor']}`, sha256 of its weights "
        f"`{found['extractor_sha256']}`; KID: mean over {found['kid_subsets']} subsets of "
        f"{found['kid_subset_size']} images; IS: all images of a set at once, from logits without their bias; "
        f"splits: mean over {found['isc_splits']} splits instead; bias: from the logits as they are",
        f"versions: {_show_versions(records)}",
    ]
    if embedded:
        lines.append(
            "FID and KID here are distances in the features of that small classifier, and the IS is its confidence: "
            "comparable with nothing else"
        )
    return lines


def find_differences(records: Sequence[DdpmRecord]) -> list[str]:
    """The fields in which the protocols differ, so that the scores say nothing of the arms."""
    fields = [name for name in Protocol.model_fields if name not in _FREE]
    return [name for name in fields if len({getattr(record.protocol, name) for record in records}) > 1]
