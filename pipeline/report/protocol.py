"""How the numbers of a table came about, in the words of the records behind them."""

from collections.abc import Sequence
from operator import attrgetter

from pipeline.schema.panel import StudyName
from pipeline.schema.project import Project
from pipeline.schema.record import Record
from pipeline.studies.ddpm.study import DdpmRecord, SnapshotScores
from pipeline.studies.node.study import NodeRecord


def show_shared(values: Sequence[object]) -> str:
    """The one value that all records have; where they disagree, all of them, marked as mixed."""
    shown = sorted({str(value) for value in values})
    return shown[0] if len(shown) == 1 else f"(mixed: {', '.join(shown)})"


def _shared(records: Sequence[Record], key: str) -> str:
    """The same of a key, or of a key within a part of the record: `protocol.images`."""
    return show_shared([attrgetter(key)(record) for record in records])


def describe_node(records: Sequence[NodeRecord]) -> list[str]:
    """The protocol of the NODE study."""
    return [
        f"accuracy and NFE at the best of {_shared(records, 'epochs')} epochs by test accuracy (our choice, inferred "
        "from neural-ode-features; the paper does not say), and accuracy at the last; "
        f"{_shared(records, 'images')} test images; NFE: forward, mean "
        "over test batches; NFE-B: adjoint solve, mean over training batches; left out, or —, where there is none"
    ]


def _show_steps(snapshots: Sequence[SnapshotScores]) -> str:
    first, last = snapshots[0].step, snapshots[-1].step
    return f"{len(snapshots)}, after {first} to {last} steps" if len(snapshots) > 1 else f"the last alone, {last} steps"


def _show_versions(records: Sequence[DdpmRecord]) -> str:
    names = sorted({name for record in records for name in record.protocol.versions})
    found = {name: [record.protocol.versions.get(name, "unknown") for record in records] for name in names}
    return ", ".join(f"{name} {show_shared(versions)}" for name, versions in found.items())


def describe_ddpm(records: Sequence[DdpmRecord], embedded: bool) -> list[str]:
    """The protocol of the DDPM study.

    Args:
        embedded: whether the features are those of a small classifier of our own.
    """
    names = (
        *("images", "sets", "reference_images", "extractor", "extractor_sha256", "features", "isc_splits"),
        *("kid_subsets", "kid_subset_size"),
    )
    found = {name: _shared(records, f"protocol.{name}") for name in names}
    drawn = ("sampler", "clip", "labels", "variance", "quantisation", "weights")
    lines = [
        f"sample sets: {found['sets']}, of {found['images']} images each, from the averaged weights after "
        f"{_shared(records, 'training_steps')} training steps; a run's value is the mean over its sets; reference: "
        f"{found['reference_images']} images, all of the training split, unflipped",
        f"{_shared(records, 'protocol.sampling_steps')} sampling steps; "
        + ", ".join(f"{name} {_shared(records, f'protocol.{name}')}" for name in drawn),
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


_INFERRED = {
    "node": "ours, inferred from the paper and from neural-ode-features",
    "ddpm": "ours, inferred from the paper and from score_sde_pytorch's vp/ddpm/cifar10",
}
"""Where each study's base comes from: the paper names no code."""


def describe_baseline(project: Project, study: StudyName, dataset: str) -> list[str]:
    """How a dataset's baseline differs from the study's base, and its training; fields and values as in specs/."""
    run = project.resolve(study, dataset, "baseline", 0).model_dump()
    bases = {"network": project.node.base.model_dump()} if study == "node" else project.ddpm.base.model_dump()
    lines = []
    for name, base in bases.items():
        differing = {key: value for key, value in run[name].items() if value != base[key]}
        what = f", with {_list_fields(differing)}" if differing else ", unchanged"
        lines.append(f"baseline's {name}: the base of specs/{study}.yaml ({_INFERRED[study]}){what}")
    return [*lines, f"training: {_list_fields(run['training'])}"]


def _list_fields(values: dict[str, object]) -> str:
    """Fields and values on one line."""
    return ", ".join(f"{key} {value}" for key, value in values.items())
