"""Schedule, loss and sampler against closed forms."""

import math

import numpy as np
import pytest
import torch
from problems import gaussian_denoiser

from pipeline.diffusion.continuous import VpLinear, linear_path
from pipeline.diffusion.loss import noise_loss
from pipeline.diffusion.noise import draw_noise, philox
from pipeline.diffusion.path import add_noise, predict_x0
from pipeline.diffusion.sample import choose_levels, level_input, predict_next, quantise_images, sample_images
from pipeline.diffusion.schedule import make_schedule, take_root
from pipeline.diffusion.trajectory import Trajectory, choose_moments
from pipeline.schema.diffusion import Diffusion, Sampling

SCHEDULE = make_schedule(Diffusion(levels=1000, beta_min=0.1, beta_max=20.0))
VP = VpLinear(beta_min=0.1, beta_max=20.0)
SAMPLING = Sampling(
    images=10, sets=1, first_snapshot=None, batch_size=10, sampler="ancestral", steps=1000, clip=False,
    labels="integer", variance="large", quantisation="truncate",
)  # fmt: skip


def choose(**fields):
    return SAMPLING.model_copy(update=fields)


def draw_from(generator, shape, dtype=torch.float32):
    return lambda index: torch.randn(shape, generator=generator, dtype=dtype)


def integer_level(label):
    return label.round().long()


def fractional_level(label):
    return ((label - 0.999) / 0.999).round().long()


def test_a_root_is_rounded_correctly_whatever_the_cpu():
    """From the estimate of a CPU's maker it would not be."""
    x = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) * 3
    for value, root in zip(x.tolist(), take_root(x).tolist(), strict=True):
        assert root == np.float32(math.sqrt(value))  # float64's root, rounded, is float32's


def test_the_schedule_is_ddpms():
    assert SCHEDULE.betas[0].item() == pytest.approx(1e-4)
    assert SCHEDULE.betas[-1].item() == pytest.approx(0.02)
    assert SCHEDULE.alphas_bar[-1].item() == pytest.approx(4.0358e-5, rel=1e-4)
    assert (1 - SCHEDULE.alphas_bar[0]).sqrt().item() == pytest.approx(0.01, rel=1e-5)


def test_noise_is_added_with_the_variance_that_is_missing():
    generator = torch.Generator().manual_seed(0)
    x = torch.full((20_000, 1, 1, 1), 0.5)
    level = torch.full((20_000,), 300)
    noisy = add_noise(SCHEDULE(level), x, torch.randn(x.shape, generator=generator))
    alpha_bar = SCHEDULE.alphas_bar[300].item()
    assert noisy.mean().item() == pytest.approx(0.5 * alpha_bar**0.5, abs=0.02)
    assert noisy.var().item() == pytest.approx(1 - alpha_bar, rel=0.03)


# ---- Gaussian paths ----------------------------------------------------------------------------------------

TIMES = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
PATHS = pytest.mark.parametrize("schedule", [VP, linear_path], ids=["vp", "linear"])


def differentiate(function, t, step=1e-3):
    """Central differences of fourth order."""
    near, far = (function(t + s) - function(t - s) for s in (step, 2 * step))
    return (8 * near - far) / (12 * step)


@PATHS
def test_the_derivatives_of_a_path_are_those_of_finite_differences(schedule):
    path = schedule(TIMES)
    torch.testing.assert_close(path.d_alpha, differentiate(lambda t: schedule(t).alpha, TIMES), rtol=0, atol=1e-8)
    late = TIMES >= 0.1  # sigma is like a root near 0, where differences are no measure
    expected = differentiate(lambda t: schedule(t).sigma, TIMES[late])
    torch.testing.assert_close(path.d_sigma[late], expected, rtol=0, atol=1e-7)


def test_the_derivatives_of_vp_are_those_of_autograd_on_score_sdes_formula():
    t = TIMES.clone().requires_grad_()
    alpha = torch.exp(-0.25 * t**2 * (20.0 - 0.1) - 0.5 * t * 0.1)
    sigma = torch.sqrt(1 - alpha**2)
    path = VP(TIMES)
    for ours, theirs, slope in ((path.alpha, alpha, path.d_alpha), (path.sigma, sigma, path.d_sigma)):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-13, atol=0)
        (expected,) = torch.autograd.grad(theirs.sum(), t, retain_graph=True)
        torch.testing.assert_close(slope, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("path", [VP(TIMES), SCHEDULE(torch.arange(1000))], ids=["continuous", "discrete"])
def test_vp_preserves_the_variance(path):
    """alpha^2 + sigma^2 = 1, and so its derivative is 0."""
    torch.testing.assert_close(path.alpha**2 + path.sigma**2, torch.ones_like(path.alpha), rtol=0, atol=1e-15)
    slope = path.alpha * path.d_alpha + path.sigma * path.d_sigma
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-14)


def test_sigma_of_vp_keeps_its_digits_near_the_data():
    t = torch.tensor([1e-12, 1e-9], dtype=torch.float64)
    torch.testing.assert_close(VP(t).sigma, (0.1 * t).sqrt(), rtol=1e-6, atol=0)
    end = VP(torch.zeros(1, dtype=torch.float64))
    assert (end.alpha.item(), end.sigma.item(), end.d_alpha.item(), end.d_sigma.item()) == (1, 0, -0.05, math.inf)


def test_the_linear_path_leads_from_the_data_to_the_noise():
    x, noise = torch.randn((2, 3, 1), generator=torch.Generator().manual_seed(0)).double()
    start, end = (linear_path(torch.full((3,), time).double()) for time in (0, 1))
    assert torch.equal(add_noise(start, x, noise), x)
    assert torch.equal(add_noise(end, x, noise), noise)


def test_the_discrete_schedule_is_the_roots_of_its_products():
    level = torch.tensor([0, 7, 999])
    path = SCHEDULE(level)
    assert torch.equal(path.alpha, take_root(SCHEDULE.alphas_bar)[level])
    assert torch.equal(path.sigma, take_root(1 - SCHEDULE.alphas_bar)[level])
    torch.testing.assert_close(path.d_alpha, -1000 * SCHEDULE.betas[level] / 2 * path.alpha, rtol=1e-14, atol=0)
    for index, one in enumerate(level.tolist()):
        found = SCHEDULE(one)
        assert (found.alpha.shape, found.d_sigma.shape) == ((), ())
        assert (found.alpha, found.d_sigma) == (path.alpha[index], path.d_sigma[index])


def test_the_discrete_schedule_converges_to_the_continuous_one_with_order_1():
    """Level i stands for the time (i + 1) / levels."""
    errors = []
    for levels in (500, 1000, 2000, 4000):
        schedule = make_schedule(Diffusion(levels=levels, beta_min=0.1, beta_max=20.0))
        level = torch.arange(levels // 10 - 1, levels, levels // 10)  # t = 0.1, 0.2, ... 1
        ours, limit = schedule(level), VP((level + 1).double() / levels)
        pairs = zip(vars(ours).values(), vars(limit).values(), strict=True)
        errors.append([(a - b).abs().max().item() for a, b in pairs])
    orders = torch.tensor(errors).log2().diff(dim=0).neg()  # [3 halvings, 4 fields]
    assert ((orders > 0.95) & (orders < 1.05)).all(), orders
    assert max(errors[-1]) < 0.02


def test_a_level_of_1000_is_at_score_sdes_time():
    times = torch.linspace(1, 1e-3, 1000, dtype=torch.float64).flip(0)
    torch.testing.assert_close(times, torch.arange(1, 1001).double() / 1000, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(6, 2), (6, 3, 4, 4)])
@pytest.mark.parametrize(
    "path",
    [VP(TIMES[::17]), linear_path(TIMES[::17]), SCHEDULE(torch.tensor([0, 1, 300, 600, 900, 999])), SCHEDULE(300)],
    ids=["vp", "linear", "discrete", "one level"],
)
def test_predict_x0_inverts_add_noise(path, shape):
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(predict_x0(path, add_noise(path, x, noise), noise), x, rtol=0, atol=1e-12)
    single = add_noise(path, x.float(), noise.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), add_noise(path, x, noise), rtol=0, atol=1e-6)


@PATHS
def test_the_log_snr_falls_at_the_rate_of_its_factors(schedule):
    """d log_snr / dt = 2 (d_alpha / alpha - d_sigma / sigma), which for VP is -beta / sigma^2."""
    t = TIMES[(TIMES >= 0.1) & (TIMES <= 0.9)]
    path = schedule(t)
    slope = 2 * (path.d_alpha / path.alpha - path.d_sigma / path.sigma)
    torch.testing.assert_close(slope, differentiate(lambda t: schedule(t).log_snr(), t), rtol=1e-6, atol=0)
    assert (slope < 0).all()
    if schedule is VP:
        torch.testing.assert_close(slope, -VP.beta(t) / path.sigma**2, rtol=1e-12, atol=0)


# ---- Sampling ----------------------------------------------------------------------------------------------


def test_levels_visited_are_all_of_them_or_evenly_spaced():
    assert choose_levels(1000, 1000) == list(range(999, -1, -1))
    assert choose_levels(1000, 4) == [999, 666, 333, 0]
    assert choose_levels(1000, 1) == [999]


def test_fractional_levels_are_score_sdes():
    times = torch.linspace(1, 1e-3, 1000, dtype=torch.float64)
    for index in (0, 1, 500, 999):
        assert level_input(999 - index, 1000, "fractional") == pytest.approx(999 * times[index].item())
    assert level_input(7, 1000, "integer") == 7


def sample_gaussian(mean, std, plan):
    levels_of = fractional_level if plan.labels == "fractional" else integer_level
    denoiser = gaussian_denoiser(SCHEDULE.alphas_bar, mean, std**2, levels_of)
    draw = draw_from(torch.Generator().manual_seed(0), (20_000, 1, 1, 1))
    return sample_images(denoiser, SCHEDULE, plan, draw)


@pytest.mark.parametrize(("steps", "labels"), [(1000, "fractional"), (1000, "integer"), (250, "fractional")])
@pytest.mark.parametrize(("sampler", "variance"), [("ancestral", "large"), ("ancestral", "small"), ("ddim", "large")])
def test_the_optimal_denoiser_of_a_gaussian_samples_that_gaussian(sampler, variance, steps, labels):
    mean, std = 0.3, 0.5
    samples = sample_gaussian(mean, std, choose(sampler=sampler, steps=steps, labels=labels, variance=variance))
    assert samples.mean().item() == pytest.approx(mean, abs=0.02)
    assert samples.std().item() == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize(("sampler", "variance"), [("ancestral", "large"), ("ancestral", "small"), ("ddim", "large")])
def test_clipping_changes_nothing_where_all_images_are_within_bounds(sampler, variance):
    plan = choose(sampler=sampler, variance=variance)
    free, clipped = (sample_gaussian(0.05, 0.12, plan.model_copy(update={"clip": clip})) for clip in (False, True))
    torch.testing.assert_close(clipped, free, rtol=0, atol=1e-3)
    assert free.std().item() == pytest.approx(0.12, rel=0.06)


def test_ddim_draws_once_and_ancestral_sampling_in_every_step_but_the_last():
    denoiser = gaussian_denoiser(SCHEDULE.alphas_bar, 0.0, 0.1, integer_level)
    for sampler, expected in (("ddim", [0]), ("ancestral", [0, 1, 2, 3])):
        drawn, steps = [], []

        def draw(index, drawn=drawn):
            drawn.append(index)
            return torch.full((2, 1, 1, 1), 0.5)

        sample_images(
            denoiser,
            SCHEDULE,
            choose(sampler=sampler, steps=4),
            draw,
            lambda step, x, noise, steps=steps: steps.append(step),
        )
        assert drawn == expected
        assert steps == [0, 1, 2, 3]


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_clipping_bounds_the_x0_prediction(sampler):
    """Without predicted noise the x0-prediction is x / alpha, which is huge at the noisiest level."""
    x = torch.full((1, 1, 1, 1), 3.0)
    for clip, bound in ((True, 1.0), (False, 400.0)):
        plan = choose(sampler=sampler, steps=1, clip=clip)
        out = sample_images(lambda x, label: torch.zeros_like(x), SCHEDULE, plan, lambda index: x)
        assert out.item() == pytest.approx(bound if clip else 3 / SCHEDULE.alphas_bar[-1].sqrt().item(), rel=1e-4)
        assert out.item() > bound - 1


def know_image(schedule, image, seen):
    """A denoiser that knows the image."""

    def denoiser(noisy, label):
        seen.append(noisy)
        alpha_bar = schedule.alphas_bar[integer_level(label)].view(-1, 1, 1, 1)
        return (noisy - alpha_bar.sqrt() * image) / (1 - alpha_bar).sqrt()

    return denoiser


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("variance", ["large", "small"])
def test_a_step_is_ddpms_posterior(variance, clip):
    """Ho et al. 2020, equations 6 and 7, for a denoiser that knows the image."""
    schedule = make_schedule(Diffusion(levels=2, beta_min=0.5, beta_max=1.5))
    image, x, noise = (torch.tensor([[[[value]]]]).double() for value in (0.7, -0.4, 1.3))
    seen = []
    plan = choose(steps=2, variance=variance, clip=clip)
    out = sample_images(know_image(schedule, image, seen), schedule, plan, lambda index: (x, noise)[index])
    (previous, alpha_bar), beta = schedule.alphas_bar, schedule.betas[1]
    mean = previous.sqrt() * beta / (1 - alpha_bar) * image + (1 - beta).sqrt() * (1 - previous) / (1 - alpha_bar) * x
    added = beta if variance == "large" else beta * (1 - previous) / (1 - alpha_bar)
    torch.testing.assert_close(seen[1], mean + added.sqrt() * noise, atol=1e-6, rtol=0)
    torch.testing.assert_close(out, image, atol=1e-6, rtol=0)


def test_a_ddim_step_keeps_the_noise_it_found():
    """Song et al. 2021, equation 12 with sigma = 0: the same image and the same noise at the next level."""
    schedule = make_schedule(Diffusion(levels=2, beta_min=0.5, beta_max=1.5))
    image, noise = torch.tensor([[[[0.7]]]]).double(), torch.tensor([[[[-1.1]]]]).double()
    (previous, alpha_bar), seen = schedule.alphas_bar, []
    x = alpha_bar.sqrt() * image + (1 - alpha_bar).sqrt() * noise
    out = sample_images(know_image(schedule, image, seen), schedule, choose(sampler="ddim", steps=2), lambda index: x)
    torch.testing.assert_close(seen[1], previous.sqrt() * image + (1 - previous).sqrt() * noise, atol=1e-6, rtol=0)
    torch.testing.assert_close(out, image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize("level", [999, 500, 1, 0])
def test_an_ancestral_step_is_diffusers_ddpm_scheduler(level, variance, clip):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear",
        variance_type=f"fixed_{variance}", clip_sample=clip,
    )  # fmt: skip
    torch.testing.assert_close(SCHEDULE.betas.float(), scheduler.betas, rtol=1e-6, atol=0)
    torch.testing.assert_close(SCHEDULE.alphas_bar.float(), scheduler.alphas_cumprod, rtol=2e-5, atol=0)
    generator = torch.Generator().manual_seed(0)
    x, predicted = (torch.randn((2, 3, 4, 4), generator=generator) for _ in range(2))
    theirs = scheduler.step(predicted, level, x, generator=torch.Generator().manual_seed(7)).prev_sample
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    plan = choose(variance=variance, clip=clip)
    mean, spread = predict_next(SCHEDULE, x, predicted, level, level - 1 if level else None, plan)
    # Theirs is in float32 throughout, where 1 - alpha_bar has few digits at the last levels.
    torch.testing.assert_close(
        mean + spread * noise if level else mean, theirs, rtol=0, atol=5e-4 if level < 2 else 2e-5
    )


# ---- Trajectories ------------------------------------------------------------------------------------------


def test_moments_are_from_the_noise_to_the_image_and_evenly_spaced():
    assert choose_moments(1000) == [0, 111, 222, 333, 444, 556, 667, 778, 889, 1000]
    assert choose_moments(9) == list(range(10))
    assert choose_moments(3) == [0, 1, 2, 3]
    assert choose_moments(1) == [0, 1]


@pytest.mark.parametrize("level", [999, 600, 100, 0])
def test_the_x0_prediction_is_the_posterior_mean(level):
    """For data from N(mean, variance): E[y | x] = mean + a variance (x - a mean) / (a^2 variance + s^2)."""
    mean, variance = 0.3, 0.25
    denoiser = gaussian_denoiser(SCHEDULE.alphas_bar, mean, variance, integer_level)
    alpha_bar = SCHEDULE.alphas_bar[level].item()
    x = torch.linspace(-3, 3, 24, dtype=torch.float64).view(2, 3, 2, 2)
    expected = mean + alpha_bar**0.5 * variance * (x - alpha_bar**0.5 * mean) / (alpha_bar * variance + 1 - alpha_bar)
    noise = denoiser(x, torch.tensor([float(level)]))
    torch.testing.assert_close(predict_x0(SCHEDULE(level), x, noise), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
@pytest.mark.parametrize("steps", [40, 1])
def test_a_trajectory_leads_from_the_noise_to_the_images_by_posterior_means(steps, sampler, clip):
    plan = choose(sampler=sampler, steps=steps, clip=clip, quantisation="round")
    mean, variance = 0.1, 0.04
    denoiser = gaussian_denoiser(SCHEDULE.alphas_bar, mean, variance, integer_level)
    trajectory, seen = Trajectory(SCHEDULE, plan), []

    def callback(step, x, noise):
        seen.append(x)
        trajectory.watch(step, x, noise)

    def draw():
        return draw_from(torch.Generator().manual_seed(0), (9, 3, 5, 7))

    images = sample_images(denoiser, SCHEDULE, plan, draw(), callback)
    assert torch.equal(images, sample_images(denoiser, SCHEDULE, plan, draw()))  # it changes nothing
    trajectory.finish(images)
    kept = trajectory.stack()
    moments = choose_moments(steps)
    assert kept["levels"].tolist() == [choose_levels(1000, steps)[moment] for moment in moments[:-1]] + [-1]
    assert kept["x"].shape == kept["x0"].shape == (len(moments), 4, 3, 5, 7)
    assert torch.equal(kept["x"][0], quantise_images(draw()(0)[:4], "round"))
    for name in ("x", "x0"):
        assert torch.equal(kept[name][-1], quantise_images(images[:4], "round"))
    for index, (moment, level) in enumerate(zip(moments[:-1], kept["levels"].tolist(), strict=False)):
        x, a = seen[moment][:4].double(), SCHEDULE.alphas_bar[level].sqrt()
        assert torch.equal(kept["x"][index], quantise_images(x, "round"))
        expected = mean + a * variance * (x - a * mean) / (a**2 * variance + 1 - a**2)
        apart = (quantise_images(expected, "round").int() - kept["x0"][index].int()).abs()
        assert apart.max() <= 1  # float32 on the border between two grey levels
        assert (apart > 0).double().mean() < 0.02


# ---- Noise, loss, grey levels ------------------------------------------------------------------------------


def test_philox_gives_the_published_words():
    """Random123's known answers for Philox4x32-10."""

    def words(counter, key):
        return [int(word) for word in philox(tuple(torch.tensor([value]) for value in counter), key)]

    ones, pi = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert words((0, 0, 0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert words((ones,) * 4, (ones, ones)) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert words(pi, (0xA4093822, 0x299F31D0)) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_noise_is_normal_and_depends_on_key_image_and_draw_alone():
    images = torch.arange(4000)
    noise = draw_noise(123456789 << 32 | 77, images, 3, (3, 3, 3)).double()
    assert noise.shape == (4000, 3, 3, 3)
    flat = noise.flatten(1)
    count = flat.numel()
    assert abs(flat.mean().item()) < 4 / count**0.5
    assert flat.var().item() == pytest.approx(1, abs=4 * (2 / count) ** 0.5)
    assert (flat**4).mean().item() == pytest.approx(3, abs=4 * (96 / count) ** 0.5)
    from scipy.stats import kstest

    assert kstest(flat.flatten().numpy(), "norm").pvalue > 1e-3
    correlations = torch.corrcoef(flat.T) - torch.eye(27)
    assert correlations.abs().max() < 5 / 4000**0.5
    some = torch.tensor([17, 3999, 5])
    assert torch.equal(draw_noise(123456789 << 32 | 77, some, 3, (3, 3, 3)).double(), noise[some])
    for key, draw in ((123456789 << 32 | 78, 3), (123456788 << 32 | 77, 3), (123456789 << 32 | 77, 4)):
        other = draw_noise(key, images, draw, (3, 3, 3)).double().flatten(1)
        assert abs((other * flat).mean().item()) < 4 / count**0.5


def test_the_loss_of_the_optimal_denoiser_is_its_conditional_variance():
    variance = 0.25
    denoiser = gaussian_denoiser(SCHEDULE.alphas_bar, 0.0, variance, integer_level)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((60_000, 1, 1, 1), generator=generator) * variance**0.5
    a2, s2 = SCHEDULE.alphas_bar, 1 - SCHEDULE.alphas_bar
    expected = (a2 * variance / (a2 * variance + s2)).mean().item()
    level = torch.randint(0, 1000, (60_000,), generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    assert noise_loss(denoiser, SCHEDULE, x, level, noise).item() == pytest.approx(expected, rel=0.05)


def test_quantisation():
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert quantise_images(x, "truncate").tolist() == [0, 0, 127, 255, 255]
    assert quantise_images(x, "round").tolist() == [0, 0, 128, 255, 255]
