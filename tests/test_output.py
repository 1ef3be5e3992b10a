"""What a diffusion network's output stands for: one family, the same samples; EDM2's layers in the study `ddpm`."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from miniature import study_ddpm
from problems import ROOT, ddpm_network, gaussian_denoiser, resolve
from test_diffusion import choose
from torch import Tensor
from trainings import COMPUTE, ddpm_run, stripes

from pipeline.data.arrays import Split
from pipeline.diffusers.exchange import print_export
from pipeline.diffusion.edm import precondition, weigh_losses
from pipeline.diffusion.loss import noise_loss
from pipeline.diffusion.output import NOISE, Output
from pipeline.diffusion.parametrisation import PARAMETRISATIONS
from pipeline.diffusion.path import add_noise, predict_x0
from pipeline.diffusion.power_average import CURVE
from pipeline.diffusion.sample import sample_images
from pipeline.diffusion.schedule import make_schedule
from pipeline.layers.mp_conv import MpConv
from pipeline.schema.base import SpecError
from pipeline.schema.diffusion import Diffusion, OutputKind
from pipeline.schema.document import read_document
from pipeline.studies.ddpm.magnitude_unet import MagnitudeBlock, MagnitudeUNet
from pipeline.studies.ddpm.study import DdpmNetwork, DdpmRecord, DdpmTraining
from pipeline.studies.ddpm.trainer import DdpmTrainer
from pipeline.studies.ddpm.views import _list_lengths

KINDS: tuple[OutputKind, ...] = get_args(OutputKind)
SCHEDULE = make_schedule(Diffusion())
LEVELS = torch.tensor([0, 1, 50, 400, 800, 998, 999])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def point() -> tuple[Any, Tensor, Tensor, Tensor]:
    """The path at the levels, x0, noise and x_t, float64."""
    path, x0, noise = SCHEDULE(LEVELS), draw(len(LEVELS), 1, 2, 2), draw(len(LEVELS), 1, 2, 2, seed=1)
    return path, x0, noise, add_noise(path, x0, noise)


def test_all_names_of_the_family_can_be_chosen():
    assert set(KINDS) == set(PARAMETRISATIONS)
    assert get_args(DdpmTraining.model_fields["parametrisation"].annotation) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_output_of_any_kind_means_the_same_noise_and_x0(kind: OutputKind):
    path, x0, noise, x = point()
    output = Output(kind, 0.7)
    found = output.predict_noise(path, x, output.find_target(path, x0, noise))
    torch.testing.assert_close(found, noise, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(predict_x0(path, x, found), x0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_is_the_familys_x0_prediction(kind: OutputKind):
    path, _, _, x = point()
    parts, raw = PARAMETRISATIONS[kind](path, 0.7), draw(len(LEVELS), 1, 2, 2, seed=2)
    a, b = (value.view(-1, 1, 1, 1) for value in (parts.of_x, parts.of_output))
    x0 = predict_x0(path, x, Output(kind, 0.7).predict_noise(path, x, raw))
    torch.testing.assert_close(x0, a * x + b * raw, rtol=1e-6, atol=1e-6)


def test_edms_output_is_its_preconditioning_with_the_noise_over_the_signal():
    """c_skip, c_out and c_in of y = x_t / alpha, sigma / alpha; and the loss has EDM's weight."""
    path, x0, noise, x = point()
    alpha, sigma = (value.view(-1, 1, 1, 1) for value in (path.alpha, path.sigma))
    of, y = precondition(sigma / alpha), x / alpha
    raw = draw(len(LEVELS), 1, 2, 2, seed=2)
    torch.testing.assert_close(Output("edm").scale_input(path, x), of.into * y)
    expected = of.skip * y + of.out * raw
    torch.testing.assert_close(predict_x0(path, x, Output("edm").predict_noise(path, x, raw)), expected)

    def network(seen: Tensor, _: Tensor) -> Tensor:
        return torch.tanh(seen) - 0.2

    found = Output("edm").measure_loss(network, SCHEDULE, x0.float(), LEVELS, noise.float())
    weighed = weigh_losses(network, x0, (path.sigma / path.alpha).log(), noise)
    assert found.item() == pytest.approx(weighed.mean().item(), rel=1e-3)


def test_edms_input_and_target_have_variance_one():
    for level in (0, 300, 700, 999):
        path, output = SCHEDULE(level), Output("edm", 0.7)
        x0, noise = 0.7 * draw(100_000), draw(100_000, seed=1)
        assert output.scale_input(path, add_noise(path, x0, noise)).var().item() == pytest.approx(1, abs=0.02)
        assert output.find_target(path, x0, noise).var().item() == pytest.approx(1, abs=0.02)


def test_ddpms_own_output_changes_nothing():
    path, x0, noise, x = point()
    raw = draw(*x.shape, seed=2)
    assert NOISE.scale_input(path, x) is x
    assert NOISE.predict_noise(path, x, raw) is raw
    given = (lambda y, level: 0.3 * y, SCHEDULE, x0, LEVELS, noise)
    assert torch.equal(NOISE.measure_loss(*given), noise_loss(*given))


@pytest.mark.parametrize(("large", "small"), [("full", "v"), ("edm_full", "edm")])
def test_an_output_that_grows_as_1_over_sigma_has_the_loss_of_the_one_that_does_not(
    large: OutputKind, small: OutputKind
):
    _, x0, noise, _ = point()

    def network(x: Tensor, _: Tensor) -> Tensor:
        return torch.sin(x)

    def over_sigma(x: Tensor, level: Tensor) -> Tensor:
        return network(x, level) / SCHEDULE(level.long()).sigma.view(-1, 1, 1, 1)

    losses = [
        Output(kind).measure_loss(each, SCHEDULE, x0, LEVELS, noise).item()
        for kind, each in ((large, over_sigma), (small, network))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_networks_that_mean_the_same_give_the_same_samples(sampler: Any):
    """Of Gaussian data, where the best network is known: each kind's own output, from the best noise."""
    best = gaussian_denoiser(SCHEDULE.alphas_bar, 0.3, 0.2, lambda label: label.round().long())
    plan = choose(sampler=sampler, steps=12, labels="integer", clip=False)
    start = [torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(k)) for k in range(13)]

    def sample(kind: OutputKind) -> Tensor:
        output = Output(kind)

        def network(seen: Tensor, label: Tensor) -> Tensor:
            path = SCHEDULE(int(label.item()))
            x = seen.double() / output.scale_input(path, torch.ones_like(seen.double()))
            noise = best(x, label)
            return output.find_target(path, predict_x0(path, x, noise), noise)

        return sample_images(network, SCHEDULE, plan, lambda index: start[index], output=output)

    samples = {kind: sample(kind) for kind in KINDS}
    torch.testing.assert_close(samples["noise"], sample_images(best, SCHEDULE, plan, lambda index: start[index]))
    for kind, found in samples.items():
        assert (found - samples["noise"]).abs().max() < 1e-3, kind


# ---- In training -----------------------------------------------------------------------------------------------------


def read_digits() -> Split:
    from sklearn import datasets

    images = (datasets.load_digits().images[:256] * 15.9).astype(np.uint8)[:, None]
    return Split(images, np.zeros(256, dtype=np.int64), 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("magnitude", "kind"), [*(("none", kind) for kind in KINDS), ("preserving", "v"), ("forced", "edm")]
)
def test_a_few_steps_on_the_digits_reduce_the_loss(magnitude: str, kind: OutputKind):
    fields = {"magnitude": magnitude, "position": "none", "dropout": 0.0}
    run = ddpm_run(fields=fields, parametrisation=kind, batch_size=32, flip=False, learning_rate=8e-3, warmup=5)
    trainer = DdpmTrainer(run, read_digits(), COMPUTE, "cpu")
    held = trainer.draw(1000, torch.arange(128))

    def measure() -> float:
        with torch.no_grad():
            return trainer.output.measure_loss(trainer.network, trainer.schedule, *held).item()

    before = measure()
    for step in range(30):
        trainer.step(step, torch.randint(256, (32,), generator=torch.Generator().manual_seed(step)))
    assert measure() < 0.9 * before


def test_the_rate_falls_with_the_root_of_the_step():
    trainer = DdpmTrainer(ddpm_run(rate_decay=2), stripes(8, 8), COMPUTE, "cpu")
    rates = []
    for step in range(9):
        trainer.step(step, torch.arange(8))
        rates.append(trainer.optimiser.param_groups[0]["lr"] / trainer.run.training.learning_rate)
    assert rates == pytest.approx([0, 0.5, *(math.sqrt(2 / step) for step in range(2, 9))])


# ---- EDM2's layers ---------------------------------------------------------------------------------------------------


def make_network(**fields: Any) -> MagnitudeUNet:
    torch.manual_seed(0)
    network = ddpm_network(magnitude="preserving", position="none", **fields)
    return MagnitudeUNet(network, 2, 8, 1000).eval()


def test_at_first_the_output_is_0_and_with_gains_of_1_it_knows_the_level():
    network, x = make_network(), torch.randn(3, 2, 8, 8)
    levels = torch.tensor([10.0, 500.0, 900.0])
    assert network(x, levels).abs().max() == 0
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "gain" in name:
                value.fill_(1.0)
    out = network(x, levels)
    assert out.shape == x.shape
    assert (out - network(x, levels.flip(0))).abs().max() > 1e-2
    torch.testing.assert_close(network(x, torch.tensor([500.0]))[1], out[1], rtol=1e-4, atol=1e-5)  # one level for all
    assert all(name == "gain_out" or value.ndim > 1 or "gain" in name for name, value in network.named_parameters())


def test_without_the_time_it_knows_no_level():
    network, x = make_network(time="none"), torch.randn(3, 2, 8, 8)
    assert torch.equal(network(x, torch.zeros(3)), network(x, torch.full((3,), 900.0)))
    assert not any("tell" in name or "embed" in name for name, _ in network.named_parameters())


def test_it_keeps_magnitudes_and_has_the_studys_layout():
    """Up to the correlation of branches, which all sums neglect."""
    network, sizes = make_network(channels=32, blocks=2, attention_sizes=[8, 4], up_attention="each"), []
    blocks = [part for part in network.modules() if isinstance(part, MagnitudeBlock)]
    for block in blocks:
        block.register_forward_hook(lambda _module, _inputs, out: sizes.append(out.square().mean().item()))
    network(torch.randn(8, 2, 8, 8), torch.zeros(8))
    assert len(blocks) == 2 * 2 + 2 + 2 * 3
    assert sum(block.parts is not None for block in blocks) == len(blocks) - 1  # all but the middle's second
    assert all(0.4 < size < 1.6 for size in sizes)


def test_forced_weights_have_unit_magnitude_before_each_step_and_others_grow():
    grown = {}
    for magnitude in ("preserving", "forced"):
        run = ddpm_run(fields={"magnitude": magnitude, "position": "none"}, learning_rate=0.1, warmup=0)
        trainer = DdpmTrainer(run, stripes(20, 8), COMPUTE, "cpu")
        for step in range(6):
            trainer.step(step, torch.arange(8))
        layers = [part.weight for part in trainer.network.modules() if isinstance(part, MpConv)]
        grown[magnitude] = np.mean([value.detach().square().mean().item() for value in layers])
    assert grown["forced"] == pytest.approx(1, abs=0.02)  # the last step's own growth
    assert grown["preserving"] > grown["forced"] + 0.01


@pytest.mark.slow
def test_such_an_arm_is_trained_sampled_and_scored_over_the_length_of_its_average(tmp_path: Path):
    """End to end, tiny: what params.yaml has in comments."""
    arm = "magnitude=forced,ema=power,parametrisation=edm,rate_decay=1,ema_curve=true"
    study_ddpm(tmp_path, COMPUTE, arm)
    record = read_document(tmp_path / "ddpm.json", DdpmRecord)
    assert [one.length for one in record.lengths] == list(CURVE)
    assert record.fid_length == min(one.scores.fid for one in record.lengths)
    assert record.best_length in CURVE
    assert record.change is None  # no norm follows the level
    stored = record.lengths[CURVE.index(0.1)].scores  # the length that is sampled anyway, of the same noise
    assert stored.fid == pytest.approx(record.sets[0].fid, rel=0.2)
    panel: Any = SimpleNamespace(arms=[arm], completed=lambda _: {0: record})
    assert [(point.at, point.value) for point in _list_lengths(panel)] == [
        (one.length, one.scores.fid) for one in record.lengths
    ]


@pytest.mark.parametrize(
    ("study", "case", "arm", "says"),
    [
        ("ddpm", "digits", "data_sigma=0.7", "data_sigma changes nothing without parametrisation=edm"),
        ("ddpm", "digits", "ema_curve=true", "ema_curve changes nothing without ema=power"),
        ("ddpm", "digits", "groups=1,magnitude=forced", "groups changes nothing with magnitude=forced"),
        ("ddpm", "digits", "position=mlp,magnitude=preserving", "position changes nothing with magnitude=preserving"),
        ("timetest", "white_noise", "magnitude=forced", "magnitude changes nothing in white_noise"),
    ],
)
def test_an_arm_without_effect_is_refused(study: str, case: str, arm: str, says: str):
    with pytest.raises(SpecError, match=says):
        resolve(study, case, arm)


@pytest.mark.parametrize("arm", ["magnitude=forced", "parametrisation=v"])
def test_what_diffusers_has_no_place_for_is_not_exported(arm: str):
    with pytest.raises(SpecError, match="cannot be written for diffusers"):
        print_export(ROOT, "digits", arm, 0, None, Path("unused"))


def test_every_field_of_the_network_is_said_to_have_an_effect_or_none():
    from pipeline.studies.ddpm.study import _OF_MAGNITUDES

    assert set(_OF_MAGNITUDES) < set(DdpmNetwork.model_fields)
