"""What a trained network makes of the time: the time that it is told, and the time that it infers from its input."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.audit.findings import Behaviour, Interval, LevelLoss
from pipeline.audit.objective import Loss
from pipeline.audit.probe import Array, score_probes, watch
from pipeline.compute.seeding import derive_seed, make_generator
from pipeline.report.statistics import find_interval, summarise
from pipeline.schema.base import SpecError

LEVELS = 8
"""True times: the midpoints of so many equal parts of the range."""
LEAST_BATCHES = 3
"""Without as many there is no interval worth its name."""


def choose_levels(times: Sequence[float]) -> list[float]:
    """The midpoints of equal parts of the range of some times; whole numbers where those are whole."""
    low, high = min(times), max(times)
    levels = [low + (high - low) * (part + 0.5) / LEVELS for part in range(LEVELS)]
    whole = all(t == round(t) for t in times) and high - low >= LEVELS
    return [float(round(t)) for t in levels] if whole else levels


def find_mean(values: Sequence[float]) -> Interval:
    """Mean over batches with its 95 % interval (Student's t)."""
    summary = summarise(dict(enumerate(values)))
    assert summary is not None
    low, high = find_interval(summary) or (None, None)
    return Interval(mean=summary.mean, low=low, high=high)


def check_batches(batches: Sequence[Tensor]) -> None:
    """Refuse batches that give no interval or do not hold each level.

    Raises:
        SpecError: they are too few or too small.
    """
    if len(batches) < LEAST_BATCHES:
        raise SpecError(f"batches: {len(batches)}; at least {LEAST_BATCHES} are needed for an interval")
    if any(len(batch) < LEVELS for batch in batches):
        raise SpecError(f"batches: {min(map(len, batches))} images in one; at least {LEVELS} are needed, one a level")


class _Trial:
    """Losses of the images of a batch under each telling, with the same noise."""

    def __init__(self, network: nn.Module, loss: Loss, levels: Sequence[float]) -> None:
        self.network, self.loss = network, loss
        self.levels = torch.tensor(levels, dtype=torch.float64)
        self.mean = float(self.levels.mean())
        if all(level == round(level) for level in levels):
            self.mean = float(round(self.mean))

    def _lose(self, x: Tensor, t: Tensor, told: Tensor, number: int) -> Array:
        torch.manual_seed(derive_seed(0, "behaviour", number))
        found = self.loss(self.network, x, t, told)
        if found.shape != (len(x),):
            raise SpecError(f"loss: its result has shape {list(found.shape)}; one number for each image, [{len(x)}]")
        if not found.isfinite().all():
            raise SpecError("loss: not finite")
        result: Array = found.double().cpu().numpy()
        return result

    def run(self, x: Tensor, number: int) -> tuple[Array, Array, Array, Array]:
        """Losses [3, B] under the right, shuffled and mean time; features [B, F] at the mean; places of levels [B]."""
        place = torch.arange(len(x)) % len(self.levels)
        order = torch.randperm(len(x), generator=make_generator("cpu", 0, "shuffled times", number))
        t = self.levels[place].to(x.device)
        told = [t, t[order.to(x.device)], torch.full_like(t, self.mean)]
        losses = [self._lose(x, t, one, number) for one in told[:2]]
        with watch(self.network) as features:
            losses.append(self._lose(x, t, told[2], number))
        return np.stack(losses), features.stack(len(x)), place.numpy(), place.numpy() / (len(self.levels) - 1)


@torch.no_grad()
def measure_behaviour(
    network: nn.Module, name: str, loss: Loss, batches: Sequence[Tensor], times: Sequence[float]
) -> Behaviour:
    """Tell a network the right time, the times of other images of the batch, and the mean time.

    Told: how much higher the loss is with a wrong time, over the loss with the right one. Inferred: R^2 of probes that
    read the true time from pooled features, while the mean time is told.

    Args:
        network: a copy; its buffers may change.
        name: of the loss.
        batches: images [B, ...], of one shape.

    Raises:
        SpecError: the batches are too few or too small, or the loss is no loss.
    """
    check_batches(batches)
    levels = choose_levels(times)
    trial = _Trial(network, loss, levels)
    losses, features, places, known = zip(*(trial.run(x, number) for number, x in enumerate(batches)), strict=True)
    means = np.stack([one.mean(1) for one in losses])  # [batches, 3]
    right = float(means[:, 0].mean())
    if right == 0:
        raise SpecError("loss: 0 with the right time: there is nothing to compare with")
    all_losses, all_places = np.concatenate(losses, 1), np.concatenate(places)
    by_level = [all_losses[:, all_places == place].mean(1).tolist() for place in range(len(levels))]
    probes = score_probes(features, known)
    return Behaviour(
        loss=name,
        batches=len(batches),
        images=sum(map(len, batches)),
        fixed_at=trial.mean,
        right=find_mean(means[:, 0].tolist()),
        shuffled=find_mean(((means[:, 1] - means[:, 0]) / right).tolist()),
        fixed=find_mean(((means[:, 2] - means[:, 0]) / right).tolist()),
        levels=[LevelLoss(t=t, right=a, shuffled=b, fixed=c) for t, (a, b, c) in zip(levels, by_level, strict=True)],
        linear=find_mean(probes["linear"]) if probes["linear"] else None,
        mlp=find_mean(probes["mlp"]) if probes["mlp"] else None,
    )
