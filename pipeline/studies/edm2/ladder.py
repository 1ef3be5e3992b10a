"""Trains a rung of the ladder on the digits, and follows the size of weights and activations."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.compute.seeding import make_generator, seed_global
from pipeline.diffusion.edm import DATA_SIGMA, draw_log_sigma, learn_weights, weigh_losses
from pipeline.diffusion.learning_rate import decay_rate
from pipeline.diffusion.power_average import (
    CURVE,
    TRACKED,
    PowerAverage,
    Profile,
    combine_averages,
    find_exponent,
    fit_profile,
    predict_error,
)
from pipeline.layers.mp_conv import force_weights
from pipeline.schema.study import MeasureError
from pipeline.studies.edm2.digits import load_digits
from pipeline.studies.edm2.post_hoc import list_stored
from pipeline.studies.edm2.study import Edm2Record, LadderRun, LengthLoss, Moment
from pipeline.studies.edm2.unet import LadderUNet

_TEST_SEED, _PROBE = 12345, 64
"""Seed of the test's noise, the same for all runs; images on which activations are measured."""
_CHECKED = 0.2
"""Length that is tracked only to check its post-hoc average."""
_NOISE = {"a": (-1.2, 1.2)}
"""Mean and deviation of ln(sigma): EDM's; from config b on EDM2's for latents."""
_EDM2_NOISE = (-0.4, 1.0)
_TIMES = 16
"""Moments at which sizes are measured, each a fixed factor later than the one before."""


@dataclass
class _Trained:
    """What a training leaves: moments, stored averages and their profiles, and the one that checks them."""

    drift: list[Moment] = field(default_factory=list)
    stored: list[dict[str, Tensor]] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    checked: dict[str, Tensor] = field(default_factory=dict)


class _Test:
    """The test split with noise of its own, the same for all configs, arms and seeds."""

    def __init__(self, images: Tensor) -> None:
        generator = torch.Generator().manual_seed(_TEST_SEED)
        self.x, self.noise = images, torch.randn(images.shape, generator=generator)
        self.log_sigma = draw_log_sigma(len(images), *_EDM2_NOISE, generator)

    @torch.no_grad()
    def measure_loss(self, network: LadderUNet) -> float:
        """EDM's loss."""
        return weigh_losses(network, self.x, self.log_sigma, self.noise).double().mean().item()

    @torch.no_grad()
    def measure_change(self, network: LadderUNet) -> float:
        """Root mean square change of F between the labels of sigma = 0.2 and 1, at the same inputs of variance 1."""
        outputs = [network(self.noise, torch.full((len(self.x),), label)) for label in (-0.4, 0.0)]
        return _find_rms(outputs[1] - outputs[0])

    @torch.no_grad()
    def measure_activations(self, network: LadderUNet) -> list[float]:
        """Root mean squares of the outputs of all blocks."""
        sizes: list[float] = []
        hooks = [
            block.register_forward_hook(lambda *given: sizes.append(_find_rms(given[2])))
            for block in network.list_blocks().values()
        ]
        weigh_losses(network, self.x[:_PROBE], self.log_sigma[:_PROBE], self.noise[:_PROBE])
        for hook in hooks:
            hook.remove()
        return sizes


def _find_rms(values: Tensor) -> float:
    return math.sqrt(values.detach().double().square().mean().item())


def list_weights(network: LadderUNet) -> dict[str, Tensor]:
    """Weights of convolutions and linear layers, but for those that are 0 at first, by layer."""
    return {
        name.removesuffix(".weight"): value.detach()
        for name, value in network.named_parameters()
        if value.ndim > 1 and value.any() and not name.startswith("uncertainty")
    }


def list_moments(steps: int) -> list[int]:
    """Steps at which sizes are measured: 0, then ever later by the same factor, the last among them."""
    return sorted({0} | {round(steps ** (index / (_TIMES - 1))) for index in range(_TIMES)})


def fit_slope(points: Mapping[int, float], after: int) -> float:
    """Least-squares slope of log value against log step, of the steps after one."""
    pairs = [(math.log(step), math.log(value)) for step, value in points.items() if step > after]
    x, y = (math.fsum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return math.fsum((a - x) * (b - y) for a, b in pairs) / math.fsum((a - x) ** 2 for a, _ in pairs)


def _make_step(run: LadderRun, network: LadderUNet, images: Tensor) -> Callable[[int], float]:
    """A function that takes optimiser step number i, and returns its loss."""
    training, rung = run.training, network.rung
    noise_levels = _NOISE.get(run.network.config, _EDM2_NOISE)
    start = training.decay_from if rung.forced and training.rate_decay else None
    rate = training.learning_rate or (0.01 if rung.preserving else 0.002)
    optimiser = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99), fused=True)

    def take_step(step: int) -> float:
        generator = make_generator("cpu", run.seed, "step", step)
        x = images[torch.randint(len(images), (training.batch_size,), generator=generator)]
        log_sigma = draw_log_sigma(len(x), *noise_levels, generator)
        noise = torch.randn(x.shape, generator=generator)
        if rung.forced:
            force_weights(network)
        losses = weigh_losses(network, x, log_sigma, noise)
        loss = (
            losses.mean() if network.uncertainty is None else learn_weights(losses, network.uncertainty(log_sigma / 4))
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.param_groups[0]["lr"] = decay_rate(rate, step, warmup=training.warmup, start=start)
        optimiser.step()
        return loss.item()

    return take_step


def _train(run: LadderRun, network: LadderUNet, images: Tensor, test: _Test) -> _Trained:
    """Train, storing averages and measuring sizes on the way.

    Raises:
        MeasureError: a loss is not finite.
    """
    values, steps = dict(network.named_parameters()), run.training.steps
    tracked = {length: PowerAverage(values, length) for length in (*TRACKED, _CHECKED)}
    stored, moments = list_stored(steps, run.training.stored), list_moments(steps)
    take_step, found, layers = _make_step(run, network, images), _Trained(), list_weights(network)

    def look(step: int) -> None:
        weights = [_find_rms(value) for value in layers.values()]
        found.drift.append(Moment(step=step, weights=weights, activations=test.measure_activations(network)))

    look(0)
    for step in range(1, steps + 1):
        if not math.isfinite(loss := take_step(step - 1)):
            raise MeasureError(f"the training loss is {loss}", step - 1)
        for average in tracked.values():
            average.update()
        if step in stored:
            found.profiles += [Profile(step, tracked[length].exponent) for length in TRACKED]
            found.stored += [
                {name: value.clone() for name, value in tracked[length].averages.items()} for length in TRACKED
            ]
        if step in moments:
            look(step)
    found.checked = tracked[_CHECKED].averages
    return found


def _make_average(found: _Trained, steps: int, length: float) -> tuple[dict[str, Tensor], float]:
    """The post-hoc average of a length after the last step, and the error of its profile."""
    wanted = Profile(steps, find_exponent(length))
    factors = fit_profile(found.profiles, wanted)
    return combine_averages(found.stored, factors), predict_error(found.profiles, wanted, factors)


def _compare(made: Mapping[str, Tensor], direct: Mapping[str, Tensor]) -> float:
    """Error of weights, relative to their size."""
    error = math.fsum((made[name].double() - value.double()).square().sum().item() for name, value in direct.items())
    return math.sqrt(error / math.fsum(value.double().square().sum().item() for value in direct.values()))


def _measure_lengths(network: LadderUNet, found: _Trained, steps: int, test: _Test) -> list[LengthLoss]:
    """Test loss of the post-hoc average of each length; the network's own weights are put back."""
    own = {name: value.clone() for name, value in network.state_dict().items()}
    losses = []
    for length in CURVE:
        network.load_state_dict({**own, **_make_average(found, steps, length)[0]})
        losses.append(LengthLoss(length=length, loss=test.measure_loss(network)))
    network.load_state_dict(own)
    return losses


def _follow(drift: list[Moment], key: str) -> dict[int, float]:
    """Mean over layers, or blocks, by step."""
    sizes = {moment.step: getattr(moment, key) for moment in drift}
    return {step: math.fsum(values) / len(values) for step, values in sizes.items()}


def measure_ladder(run: LadderRun) -> Edm2Record:
    """Train one config and measure it.

    Raises:
        MeasureError: the training diverged.
    """
    train, held_out = load_digits(DATA_SIGMA)
    test, steps, ramp = _Test(held_out), run.training.steps, run.training.warmup
    seed_global(run.seed, "initialisation")
    network = LadderUNet(run.network)
    network.to(memory_format=torch.channels_last)  # a third faster on a CPU
    layers, initial = list(list_weights(network)), test.measure_change(network)
    found = _train(run, network, train, test)
    weights, activations = _follow(found.drift, "weights"), _follow(found.drift, "activations")
    loss, losses = test.measure_loss(network), _measure_lengths(network, found, steps, test)
    best = min(losses, key=lambda one: one.loss)
    made, predicted = _make_average(found, steps, _CHECKED)
    error = _compare(made, found.checked)
    return Edm2Record(
        change_initial=initial,
        change=test.measure_change(network),
        weight_rms=weights[steps],
        weight_slope=fit_slope(weights, ramp),
        activation_rms=activations[steps],
        activation_slope=fit_slope(activations, ramp),
        loss=loss,
        loss_averaged=best.loss,
        best_length=best.length,
        post_hoc_error=error,
        post_hoc_share=error / predicted,
        num_params=sum(value.numel() for value in network.parameters()),
        layers=layers,
        blocks=list(network.list_blocks()),
        drift=found.drift,
        length_losses=losses,
    )
