"""Schedule, loss and sampler against closed forms."""

import pytest
import torch
from problems import gaussian_denoiser

from pipeline.diffusion.loss import noise_loss
from pipeline.diffusion.sample import choose_levels, label_level, quantise_images, sample_ancestral
from pipeline.diffusion.schedule import add_noise, make_schedule

SCHEDULE = make_schedule(1000, 0.1, 20.0)


def integer_level(label):
    return label.round().long()


def fractional_level(label):
    return ((label - 0.999) / 0.999).round().long()


def test_the_schedule_is_ddpms():
    assert SCHEDULE.betas[0].item() == pytest.approx(1e-4)
    assert SCHEDULE.betas[-1].item() == pytest.approx(0.02)
    assert SCHEDULE.alphas_bar[-1].item() == pytest.approx(4.0358e-5, rel=1e-4)
    assert (1 - SCHEDULE.alphas_bar[0]).sqrt().item() == pytest.approx(0.01, rel=1e-5)


def test_noise_is_added_with_the_variance_that_is_missing():
    generator = torch.Generator().manual_seed(0)
    x = torch.full((20_000, 1, 1, 1), 0.5)
    level = torch.full((20_000,), 300)
    noisy = add_noise(SCHEDULE, x, level, torch.randn(x.shape, generator=generator))
    alpha_bar = SCHEDULE.alphas_bar[300].item()
    assert noisy.mean().item() == pytest.approx(0.5 * alpha_bar**0.5, abs=0.02)
    assert noisy.var().item() == pytest.approx(1 - alpha_bar, rel=0.03)


def test_levels_visited_are_all_of_them_or_evenly_spaced():
    assert choose_levels(1000, 1000) == list(range(999, -1, -1))
    assert choose_levels(1000, 4) == [999, 666, 333, 0]
    assert choose_levels(1000, 1) == [999]


def test_fractional_labels_are_score_sdes():
    times = torch.linspace(1, 1e-3, 1000, dtype=torch.float64)
    for index in (0, 1, 500, 999):
        assert label_level(999 - index, 1000, "fractional") == pytest.approx(999 * times[index].item())
    assert label_level(7, 1000, "integer") == 7


@pytest.mark.parametrize(("steps", "labels"), [(1000, "fractional"), (1000, "integer"), (250, "fractional")])
@pytest.mark.parametrize("variance", ["large", "small"])
def test_the_optimal_denoiser_of_a_gaussian_samples_that_gaussian(steps, labels, variance):
    mean, std = 0.3, 0.5
    levels_of = fractional_level if labels == "fractional" else integer_level
    denoiser = gaussian_denoiser(SCHEDULE.alphas_bar, mean, std**2, levels_of)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((20_000, 1, 1, 1), generator=generator)
    samples = sample_ancestral(denoiser, SCHEDULE, x, steps, labels, variance, generator)
    assert samples.mean().item() == pytest.approx(mean, abs=0.02)
    assert samples.std().item() == pytest.approx(std, rel=0.03)


@pytest.mark.parametrize("variance", ["large", "small"])
def test_a_step_is_ddpms_posterior(variance):
    """Ho et al. 2020, equations 6 and 7, for a denoiser that knows the image."""
    schedule = make_schedule(2, 0.5, 1.5)
    image, x = torch.tensor([[[[0.7]]]]).double(), torch.tensor([[[[-0.4]]]]).double()
    seen = []

    def denoiser(noisy, label):
        seen.append(noisy)
        alpha_bar = schedule.alphas_bar[integer_level(label)].view(-1, 1, 1, 1)
        return (noisy - alpha_bar.sqrt() * image) / (1 - alpha_bar).sqrt()

    out = sample_ancestral(denoiser, schedule, x, 2, "integer", variance, torch.Generator().manual_seed(3))
    (previous, alpha_bar), beta = schedule.alphas_bar, schedule.betas[1]
    mean = previous.sqrt() * beta / (1 - alpha_bar) * image + (1 - beta).sqrt() * (1 - previous) / (1 - alpha_bar) * x
    added = beta if variance == "large" else beta * (1 - previous) / (1 - alpha_bar)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(seen[1], mean + added.sqrt() * noise, atol=1e-6, rtol=0)
    torch.testing.assert_close(out, image, atol=1e-6, rtol=0)


def test_the_loss_of_the_optimal_denoiser_is_its_conditional_variance():
    variance = 0.25
    denoiser = gaussian_denoiser(SCHEDULE.alphas_bar, 0.0, variance, integer_level)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((60_000, 1, 1, 1), generator=generator) * variance**0.5
    a2, s2 = SCHEDULE.alphas_bar, 1 - SCHEDULE.alphas_bar
    expected = (a2 * variance / (a2 * variance + s2)).mean().item()
    assert noise_loss(denoiser, SCHEDULE, x, generator).item() == pytest.approx(expected, rel=0.05)


def test_quantisation():
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert quantise_images(x, "truncate").tolist() == [0, 0, 127, 255, 255]
    assert quantise_images(x, "round").tolist() == [0, 0, 128, 255, 255]
