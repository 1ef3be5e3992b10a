"""The time test: its floors are exact, its scores cannot be better than they are, and what breaks it is caught."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from pipeline.diffusion.schedule import make_schedule
from pipeline.layers.flops import count_flops
from pipeline.metrics.bench import Bench
from pipeline.schema.diffusion import Diffusion
from pipeline.schema.study import MeasureError
from pipeline.studies.ddpm.derived import loses_level
from pipeline.studies.ddpm.level_awareness import measure_level_awareness
from pipeline.studies.ddpm.study import DdpmNetwork
from pipeline.studies.ddpm.unet import UNet
from pipeline.studies.node.derived import loses_time
from pipeline.studies.node.network import OdeFunction
from pipeline.studies.node.study import NodeNetwork
from pipeline.studies.node.time_awareness import measure_time_awareness
from pipeline.studies.timetest import field as field_module
from pipeline.studies.timetest.cost import price
from pipeline.studies.timetest.field import FieldNetwork, evaluate_times, score_field, solve_windows
from pipeline.studies.timetest.measure import check_blind, measure_timetest
from pipeline.studies.timetest.score import find_half, scale_losses, score_outputs
from pipeline.studies.timetest.study import FieldRun, NoiseRun, Task, TimetestTraining
from pipeline.studies.timetest.white_noise import find_optima, score_denoiser
from pipeline.studies.timetest.wind import SPEED, Wind, load_images

WINDS = [Wind(name, circular) for name in ("there_and_back", "turning_wind", "constant") for circular in (False, True)]
BACK = Wind("there_and_back", False)


@pytest.fixture(scope="module")
def images():
    return load_images(8)[1]


def make_run(steps=40, case="there_and_back", **fields):
    network = NodeNetwork(**{"channels": 16, "groups": 4, **fields})
    return FieldRun(case=case, arm="any", seed=0, network=network, task=Task(), training=TimetestTraining(steps=steps))


def make_noise_run(steps=20, **fields):
    settings = {"channels": 8, "channel_multipliers": [1], "blocks": 1, "attention_sizes": [], "dropout": 0.0}
    unet = DdpmNetwork(**{**settings, "groups": 2, "outer_groups": 2, **fields})
    training = TimetestTraining(steps=steps, learning_rate=4e-3, warmup=5, clip=1.0)
    return NoiseRun(
        case="white_noise", arm="any", seed=0, unet=unet, diffusion=Diffusion(), task=Task(), training=training
    )


# ---- The tasks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wind", WINDS)
def test_the_flow_is_the_solution_of_the_wind(wind, images):
    x, h = images[:8], 1e-5
    for start in (0.0, 0.3):
        t = torch.tensor([start + 0.2], dtype=torch.float64)
        before, at, after = (wind.flow(start, t.item() + shift, x) for shift in (-h, 0.0, h))
        torch.testing.assert_close((after - before) / (2 * h), SPEED * wind.velocity(t, at[None])[0], rtol=0, atol=1e-7)
        torch.testing.assert_close(wind.flow(start, start, x), x)
        torch.testing.assert_close(at.square().sum(), x.square().sum())  # D is antisymmetric


def test_there_and_back_is_back(images):
    torch.testing.assert_close(BACK.flow(0.0, 1.0, images), images)


@pytest.mark.parametrize("wind", WINDS[::2] + WINDS[1::2])
def test_a_convolution_with_the_same_padding_can_be_the_wind(wind, images):
    """Else the network could not learn the target at the border, whether it knows the time or not."""
    t = torch.tensor([0.15], dtype=torch.float64)
    kernel, mode = torch.zeros(1, 1, 3, 3, dtype=torch.float64), "circular" if wind.circular else "constant"
    a, b = wind._weigh(t)
    kernel[0, 0, 1] += a * torch.tensor([-0.5, 0.0, 0.5])  # x D^T: along a row
    kernel[0, 0, :, 1] += b * torch.tensor([-0.5, 0.0, 0.5])  # D x: along a column
    found = functional.conv2d(functional.pad(images, (1, 1, 1, 1), mode), kernel)
    torch.testing.assert_close(found, wind.velocity(t, images[None])[0])


def test_images_have_their_own_mean_and_size_removed(images):
    assert images.shape == (360, 1, 8, 8)
    torch.testing.assert_close(images.mean((1, 2, 3)), torch.zeros(360, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(images.square().mean((1, 2, 3)), torch.ones(360, dtype=torch.float64))


# ---- The floor -------------------------------------------------------------------------------------------------------


def test_floors_are_those_that_were_derived(images):
    assert score_field(lambda t, x: 0 * x, BACK, images).floor == pytest.approx(0.27470, abs=5e-6)
    ends = torch.stack([BACK.flow(start, start + 0.25, images[:120]) for start in (0.0, 0.25, 0.5, 0.75)])
    assert score_outputs(ends, ends).floor == pytest.approx(0.2278, abs=5e-5)
    assert score_field(lambda t, x: 0 * x, Wind("constant", False), images).r is None


def test_a_network_that_knows_the_wind_scores_0(images):
    """Also shows a time that is off by one point of the grid, which would score 0.038."""
    assert score_field(lambda t, x: BACK.velocity(t[None], x[None])[0], BACK, images).r < 1e-12
    late = score_field(lambda t, x: BACK.velocity(t[None] + 1 / 16, x[None])[0], BACK, images)
    assert late.r == pytest.approx(0.0384, abs=1e-3)


def test_no_network_without_the_time_is_below_the_floor(images):
    """The best of them is the target's mean over the times, with R = 1; the centred R of all is 1."""
    turning = Wind("turning_wind", False)
    torch.manual_seed(0)
    weights = torch.randn(20, 64, 64)
    for weight in weights:
        found = score_field(lambda t, x, w=weight: (x.flatten(1) @ w).view_as(x), turning, images)
        assert found.r > 1
        assert found.r_centred == pytest.approx(1, abs=1e-9)
        assert found.change == 0
    assert score_field(lambda t, x: 0 * x, turning, images).r == pytest.approx(1, abs=1e-12)


def test_r_is_the_centred_r_plus_the_error_of_the_mean():
    torch.manual_seed(0)
    f, v = torch.randn(16, 5, 1, 4, 4).double(), torch.randn(16, 5, 1, 4, 4).double()
    found = score_outputs(f, v)
    of_mean = (f.mean(0) - v.mean(0)).square().mean().item() / found.floor
    assert found.r == pytest.approx(found.r_centred + of_mean)
    assert found.floor == pytest.approx(v.var(0, correction=0).mean().item())


def test_optima_of_white_noise_are_those_that_were_derived():
    schedule = make_schedule(Diffusion())
    told, blind = find_optima(schedule)
    assert (told, blind) == (pytest.approx(0.2755, abs=5e-5), pytest.approx(0.3505, abs=5e-5))
    assert blind - told == pytest.approx(0.07503, abs=5e-6)
    # The losses of both estimates, by sampling: E |noise - c x|^2 with x = alpha x_0 + sigma noise.
    generator = torch.Generator().manual_seed(0)
    level = torch.randint(1000, (400_000,), generator=generator)
    path, (data, noise) = schedule(level), torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    x, mean = path.alpha * data + path.sigma * noise, schedule(torch.arange(1000)).sigma.mean()
    assert (noise - path.sigma * x).square().mean().item() == pytest.approx(told, rel=0.01)
    assert (noise - mean * x).square().mean().item() == pytest.approx(blind, rel=0.01)


def test_the_told_optimum_of_white_noise_scores_0_and_the_blind_one_1():
    schedule, x = make_schedule(Diffusion()), torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    told = score_denoiser(lambda x, level: schedule(level.long()).sigma.float() * x, schedule, x)
    assert told.r < 1e-12
    mean = schedule(torch.arange(20) * 50 + 25).sigma.mean().float()
    blind = score_denoiser(lambda x, level: mean * x, schedule, x)
    assert blind.r == pytest.approx(1, abs=1e-6)
    assert blind.r_centred == pytest.approx(1, abs=1e-9)


# ---- Which networks are blind ----------------------------------------------------------------------------------------

_NODE = [
    dict(zip(("norm", "time", "position", "position_mean", "padding", "groups"), values, strict=True))
    for values in itertools.product(
        ("group", "batch", "instance", "layer"),
        ("none", "concat", "linear", "mlp", "concat+mlp"),
        ("none", "linear", "mlp"),
        (False, True),
        ("zeros", "circular"),
        (2, 8),
    )
]


@pytest.mark.slow
def test_the_rule_of_equation_5_is_what_untrained_ode_functions_do():
    counts = {True: 0, False: 0}
    for fields in _NODE:
        if (fields["position_mean"] and fields["position"] == "none") or (
            fields["groups"] == 8 and fields["norm"] != "group"
        ):
            continue  # the field has no effect
        network = NodeNetwork(**fields, channels=8)
        torch.manual_seed(1)
        function, h = OdeFunction(network, 5).double(), torch.randn(3, 8, 5, 5, dtype=torch.float64)
        shares = [share or 0.0 for share in measure_time_awareness(function, h).site_share]
        assert (max(shares) < 1e-25) == loses_time(network), (fields, shares)
        counts[loses_time(network)] += 1
    assert min(counts.values()) > 40


def test_running_averages_and_other_widths_keep_the_time():
    assert not loses_time(NodeNetwork(norm="batch", time="linear", batch_statistics="running"))
    assert loses_time(NodeNetwork(time="linear", groups=32, channels=16))  # as many groups as channels, at most
    assert not loses_level(DdpmNetwork(channels=8, groups=8, channel_multipliers=[1, 2], outer_groups=8))


@pytest.mark.parametrize("time", ["embedding", "none"])
@pytest.mark.parametrize("position", [{}, {"position": "mlp"}, {"position": "mlp", "position_mean": True}])
def test_the_rule_of_equation_5_is_what_untrained_unets_do(time, position):
    for norm, groups in (("group", 2), ("group", 8), ("instance", 2), ("layer", 2), ("batch", 2)):
        run = make_noise_run(norm=norm, groups=groups, time=time, **position)
        torch.manual_seed(1)
        unet = UNet(run.network, 1, 8, 1000).double()
        x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
        shares = [share or 0.0 for share in measure_level_awareness(unet, x, 500).block_share]
        if norm == "batch" and not loses_level(run.network):
            continue  # it loses a level that the whole batch shares; in training batches do not
        assert (max(shares) < 1e-25) == loses_level(run.network), (run.network, shares)


# ---- Trained networks ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_blind_network_is_blind_and_an_aware_one_is_not():
    blind, aware = measure_timetest(make_run(norm="batch", time="linear")), measure_timetest(make_run(150, time="mlp"))
    assert blind.is_blind
    assert blind.r >= 1 - 1e-6
    assert blind.r_centred == pytest.approx(1, abs=1e-6)
    assert blind.change < 5e-6
    assert max(blind.share_initial, blind.share) < 1e-25
    assert not aware.is_blind
    assert aware.r < 0.5
    assert aware.half_step is not None
    assert aware.nfe > blind.nfe
    assert aware.flow_r < 0.5 < 1 < blind.flow_r
    again = measure_timetest(make_run(norm="batch", time="linear"))
    assert again == blind


def test_a_blind_unet_is_blind():
    record = measure_timetest(make_noise_run(groups=8, groups_scope="sites"))
    assert record.is_blind
    assert record.r >= 1 - 1e-6
    assert record.r_centred == pytest.approx(1, abs=1e-6)
    assert record.nfe is None


def test_times_in_a_batch_are_scored_as_one_by_one():
    """Training takes four times at once; each must have statistics of its own, also in batch norm."""
    running = {"norm": "batch", "batch_statistics": "running"}
    mlp = {"norm": "batch", "time": "mlp", "position": "mlp"}
    for fields in ({}, {"norm": "batch"}, running, mlp, {"padding": "circular"}):
        torch.manual_seed(0)
        network = FieldNetwork(NodeNetwork(channels=8, groups=4, **fields), 8).double()
        t, x = torch.rand(4, dtype=torch.float64), torch.randn(4, 3, 1, 8, 8, dtype=torch.float64)
        one_by_one = torch.stack([network(*pair) for pair in zip(t, x, strict=True)])
        torch.testing.assert_close(evaluate_times(network, t, x), one_by_one)


def test_running_averages_let_the_time_through():
    """They stand still in a solve, so that an offset does not cancel."""
    record = measure_timetest(make_run(20, norm="batch", time="linear", batch_statistics="running"))
    assert not record.is_blind
    assert record.change > 1e-3


def test_half_is_the_first_block_below_one_half():
    curve = scale_losses([0.9] * 10 + [0.45] * 10 + [0.2] * 10, told=0.1, blind=0.7)
    assert curve == pytest.approx([0.8 / 0.6, 0.35 / 0.6, 0.1 / 0.6])
    assert find_half(curve) == 30
    assert find_half([0.9, 0.5]) is None


def test_a_loss_that_is_not_finite_fails_the_run():
    with pytest.raises(MeasureError, match="the training loss is"):
        measure_timetest(make_run().model_copy(update={"training": TimetestTraining(steps=40, learning_rate=1e30)}))


# ---- Broken on purpose -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_batch_norm_over_several_times_is_caught(monkeypatch):
    """The statistics of a batch with several times do not take the time away, so that training sees it."""

    def mix(network, t, x):
        flat = x.flatten(0, 1)  # [T B, 1, H, W], normalised together
        sites, times = network.field, t.repeat_interleave(x.shape[1]).view(-1, 1, 1, 1)
        h = sites.activation(sites.norm1(network.lift(flat)))
        for conv, norm in ((sites.conv1, sites.norm2), (sites.conv2, sites.norm3)):
            z = functional.conv2d(h, conv.weight, conv.bias, padding=1) + times * conv.v.view(1, -1, 1, 1)
            h = norm(z) if norm is sites.norm3 else sites.activation(norm(z))
        return network.lower(h).view_as(x)

    monkeypatch.setattr(field_module, "evaluate_times", mix)
    with pytest.raises(MeasureError, match="its training loss is half the way"):
        measure_timetest(make_run(300, norm="batch", time="linear"))


def test_a_target_with_another_border_is_caught(images):
    claimed = score_field(lambda t, x: 0 * x, Wind("there_and_back", True), images).floor
    assert abs(claimed - 0.27470) > 1e-3  # the claim f13 allows 1e-5


def test_the_floor_of_another_split_is_caught(images):
    train, _ = load_images(8)
    other = score_field(lambda t, x: 0 * x, BACK, train).floor
    blind = score_field(lambda t, x: 0 * x, BACK, images)
    ratio = blind.floor / other
    with pytest.raises(MeasureError, match="centred R = "):
        check_blind(replace(blind, r=blind.r * ratio, r_centred=blind.r_centred * ratio), None, 500)


@pytest.mark.slow
def test_the_mean_of_p_in_place_of_p_is_caught(monkeypatch):
    aware = measure_timetest(make_run(200, norm="batch", time="mlp", position="mlp"))
    assert aware.r_centred < 0.9
    broken = make_run(200, norm="batch", time="mlp", position="mlp", position_mean=True)
    assert measure_timetest(broken).r_centred == pytest.approx(1, abs=1e-6)
    # A rule that does not know of the mean calls the network aware, and one that calls p blind is caught.
    monkeypatch.setattr("pipeline.studies.timetest.measure.loses_time", lambda network: True)
    with pytest.raises(MeasureError, match="loses the time"):
        measure_timetest(make_run(200, norm="batch", time="mlp", position="mlp"))


def test_a_blind_field_ends_where_it_would_from_any_start(images):
    class Blind(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.field = torch.nn.Module()
            self.field.network = NodeNetwork()

        def forward(self, t, x):
            return 0.3 * x.roll(1, -1)

    _, score = solve_windows(Blind(), BACK, images[:40])
    assert score.r > 1
    assert score.r_centred == pytest.approx(1, abs=1e-6)


# ---- Its cost --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("make", "tolerance"), [(make_run, 0.2), (make_noise_run, 0.01)])
def test_the_plan_knows_the_flops_of_a_longer_test(project, make, tolerance):
    """From two short ones; the solves of the trained field take other steps."""
    run = make(steps=80)
    cost = price(project, run, "measure", Bench(project.panel.compute, "cpu", 0.1), (0, 0))
    assert cost.flops == pytest.approx(count_flops(lambda: measure_timetest(run)), rel=tolerance)
    assert cost.seconds > 0
