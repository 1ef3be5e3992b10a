"""Makes the record of a diffusion model from the scores of its sample sets. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from pydantic import BaseModel

from pipeline.metrics.average import average
from pipeline.schema.compute import Compute
from pipeline.schema.diffusion import Sampling
from pipeline.schema.record import Settings, list_settings
from pipeline.schema.reference import ReferenceFile
from pipeline.schema.scores import Evaluation, Scores
from pipeline.studies.ddpm.study import (
    TRAINED,
    DdpmRecord,
    DdpmRun,
    LengthScores,
    LevelAwareness,
    NoiseLosses,
    Protocol,
    SampleSets,
    SnapshotScores,
)


@dataclass(frozen=True)
class Evaluated:
    """Results of an evaluation."""

    samples: SampleSets
    sets: Sequence[Scores]
    """Scores of each sample set of the last weights."""
    earlier: Sequence[Scores]
    """Scores of the first sample set of each of `samples.snapshots`."""
    initial: LevelAwareness | None
    """Before training; None for imported weights."""
    trained: LevelAwareness | None
    """Of the last averaged weights; None, and so before training, for a network that is not our U-Net."""
    num_params: int
    losses: NoiseLosses
    """On the test split, of the last averaged weights."""
    lengths: Sequence[Scores] = ()
    """Scores of the sample set of each of `samples.lengths`."""


def measure_change(awareness: LevelAwareness) -> float | None:
    """Relative change from the first to the last level, mean over blocks; None if it is None for a block."""
    return average([block[-1] for block in awareness.block_change])


def check_steps(run: DdpmRun, samples: SampleSets) -> None:
    """Refuse samples that come from other weights than the run's.

    Raises:
        ValueError: the numbers of training steps differ.
    """
    steps = run.training.steps if run.network.weights == TRAINED else 0
    if samples.steps != steps:
        raise ValueError(f"samples.json: steps = {samples.steps}: the run's weights have {steps}")


def make_ddpm_record(
    run: DdpmRun,
    compute: Compute,
    found: Evaluated,
    reference: ReferenceFile,
    evaluation: Evaluation,
    extractor: BaseModel,
    versions: Mapping[str, str],
) -> DdpmRecord:
    """Make the record of a run.

    Args:
        compute: settings under which the model was trained.
        extractor: the extractor's settings in specs/data.yaml.
        versions: versions of packages.
    """
    samples, sets = found.samples, found.sets
    assert len(sets) == samples.sampling.sets and len(found.earlier) == len(samples.snapshots)
    steps = [*samples.snapshots, samples.steps]
    snapshots = [
        SnapshotScores(step=step, scores=scores) for step, scores in zip(steps, [*found.earlier, sets[0]], strict=True)
    ]
    best = min(snapshots, key=lambda snapshot: snapshot.scores.fid)  # the first one of equals
    lengths = [
        LengthScores(length=length, scores=scores)
        for length, scores in zip(samples.lengths, found.lengths, strict=True)
    ]
    best_of_lengths = min(lengths, key=lambda one: one.scores.fid, default=None)
    initial, trained, losses = found.initial, found.trained, found.losses
    fids = [scores.fid for scores in sets]
    noise_loss, mean_level = fmean(losses.right), fmean(losses.mean_level)
    return DdpmRecord(
        fid=fmean(fids),
        fid_spread=stdev(fids) if len(fids) > 1 else None,
        fid_best=best.scores.fid,
        best_snapshot=best.step,
        kid=fmean(scores.kid for scores in sets),
        inception_score=fmean(scores.inception_score for scores in sets),
        inception_score_split=fmean(scores.inception_score_split for scores in sets),
        inception_score_biased=fmean(scores.inception_score_biased for scores in sets),
        inception_score_biased_split=fmean(scores.inception_score_biased_split for scores in sets),
        change_initial=measure_change(initial) if initial else None,
        change=measure_change(trained) if trained else None,
        share_initial=average(initial.block_share) if initial else None,
        share=average(trained.block_share) if trained else None,
        training_steps=samples.steps,
        num_params=found.num_params,
        sets=list(sets),
        snapshots=snapshots,
        protocol=make_protocol(run, samples.sampling, reference, evaluation, versions),
        settings=list_ddpm_settings(run, compute, samples.sampling, evaluation, extractor),
        initial=initial,
        trained=trained,
        noise_loss=noise_loss,
        noise_loss_shuffled=fmean(losses.shuffled),
        noise_loss_mean_level=mean_level,
        time_use=mean_level - noise_loss,
        noise_losses=losses,
        fid_length=best_of_lengths.scores.fid if best_of_lengths else None,
        best_length=best_of_lengths.length if best_of_lengths else None,
        lengths=lengths,
    )


def list_ddpm_settings(
    run: DdpmRun,
    compute: Compute,
    sampling: Sampling | None = None,
    evaluation: Evaluation | None = None,
    extractor: BaseModel | None = None,
) -> Settings:
    """Settings that decided a run and its scores. For a failed run, pass the run's only."""
    trained = run.network.weights == TRAINED
    return list_settings(
        network=run.network, diffusion=run.diffusion, training=run.training if trained else None,
        compute=compute if trained else None, sampling=sampling, evaluation=evaluation, extractor=extractor,
    )  # fmt: skip


def make_protocol(
    run: DdpmRun,
    sampling: Sampling,
    reference: ReferenceFile,
    evaluation: Evaluation,
    versions: Mapping[str, str],
) -> Protocol:
    """The full protocol of the scores.

    Args:
        versions: versions of packages.
    """
    return Protocol(
        images=sampling.images,
        sets=sampling.sets,
        reference_images=reference.images,
        extractor=reference.extractor,
        extractor_sha256=reference.extractor_sha256,
        features=reference.features,
        isc_splits=evaluation.isc_splits,
        kid_subsets=evaluation.kid_subsets,
        kid_subset_size=evaluation.kid_subset_size,
        weights=run.network.weights,
        sampler=sampling.sampler,
        sampling_steps=sampling.steps,
        clip=sampling.clip,
        labels=sampling.labels,
        variance=sampling.variance,
        quantisation=sampling.quantisation,
        versions=dict(versions),
    )
