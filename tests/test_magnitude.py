"""Magnitude-preserving layers: variances, norms and gradients, against their definitions."""

import math

import pytest
import torch
from torch import Tensor, nn

from pipeline.diffusion.edm import DATA_SIGMA, precondition, weigh_losses
from pipeline.diffusion.learning_rate import decay_rate
from pipeline.layers.cosine_attention import attend
from pipeline.layers.magnitude import MpFourier, mp_cat, mp_silu, mp_sum, normalise, normalise_pixels
from pipeline.layers.mp_conv import MpConv, force_weights

N = 200_000


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()


def test_a_stored_row_has_the_norm_root_n_and_the_effective_one_the_norm_one():
    """The community's question: why 1 / sqrt(N) beside a norm of sqrt(N)? N = 27 here."""
    layer = MpConv(3, 64, 3)
    with torch.no_grad():
        layer.weight.mul_(7.0)
    force_weights(layer)
    rows = layer.weight.detach().flatten(1)
    assert torch.allclose(rows.norm(dim=1), torch.tensor(math.sqrt(27)), rtol=2e-4)
    assert torch.allclose(layer.make_weight().flatten(1).norm(dim=1), torch.tensor(1.0), rtol=4e-4)
    x = torch.randn(50_000, 27)
    out = x @ layer.make_weight().detach().flatten(1).T
    assert rms(out) == pytest.approx(1.0, abs=0.02)
    assert rms(x @ rows.T) == pytest.approx(5.196, abs=0.1)  # without the factor: sqrt(27) times too large


@pytest.mark.parametrize(("kernel", "shape"), [(0, (4096, 24)), (1, (64, 24, 8, 8)), (3, (64, 24, 16, 16))])
def test_a_layer_keeps_the_variance_whatever_the_size_of_its_weights(kernel: int, shape: tuple[int, ...]):
    layer = MpConv(24, 32, kernel)
    x = torch.randn(shape)
    out = layer(x)
    inner = out[..., 1:-1, 1:-1] if kernel == 3 else out  # the border sees zeros
    assert rms(inner) == pytest.approx(1.0, abs=0.03)
    with torch.no_grad():
        layer.weight.mul_(5.0)
    assert torch.allclose(layer(x), out, atol=1e-3)
    assert torch.allclose(layer(x, 2.0), 2 * layer(x))


def test_the_gradient_is_orthogonal_to_each_row_so_a_step_makes_it_longer():
    layer = MpConv(5, 4, 3).double()
    layer(torch.randn(8, 5, 6, 6, dtype=torch.float64)).pow(3).sum().backward()
    gradient, weight = layer.weight.grad, layer.weight.detach()
    assert gradient is not None
    inner = (gradient * weight).sum((1, 2, 3)) / (gradient.norm() * weight.norm())
    assert inner.abs().max() < 1e-4  # not 0, by the eps in the root mean square
    assert ((weight - 0.1 * gradient).flatten(1).norm(dim=1) > weight.flatten(1).norm(dim=1)).all()


def test_a_forward_pass_never_changes_weights_and_forcing_changes_no_output():
    layer = nn.Sequential(MpConv(6, 6, 3), MpConv(6, 2, 1))
    x = torch.randn(2, 6, 8, 8)
    before, out = [value.clone() for value in layer.parameters()], layer.train()(x)
    layer.eval()(x)
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
    force_weights(layer)
    assert torch.allclose(layer(x), out, atol=1e-3)
    assert all(rms(value) == pytest.approx(1, abs=2e-4) for value in layer.parameters())


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_sums_and_concatenations_keep_variances_and_weigh_their_parts(share: float):
    a, b = torch.randn(N // 40, 12), torch.randn(N // 40, 40)
    assert rms(mp_sum(a[:, :10], b[:, :10], share)) == pytest.approx(1, abs=0.02)
    joined = mp_cat(a, b, share)
    assert rms(joined) == pytest.approx(1, abs=0.02)
    energies = joined[:, :12].square().sum().item(), joined[:, 12:].square().sum().item()
    assert energies[1] / energies[0] == pytest.approx((share / (1 - share)) ** 2, rel=0.03)


def test_silu_fourier_and_pixel_norm_have_a_mean_square_of_one():
    assert rms(mp_silu(torch.randn(N))) == pytest.approx(1, abs=0.01)
    assert rms(MpFourier(4000)(torch.linspace(-1, 1, 50))) == pytest.approx(1, abs=0.02)
    x = 3 * torch.randn(2, 16, 4, 4)
    assert torch.allclose(normalise_pixels(x).square().mean(1), torch.tensor(1.0), atol=1e-3)
    assert torch.allclose(normalise(x, (1,)), normalise(10 * x, (1,)), atol=1e-3)


def test_cosine_attention_is_its_definition_and_its_logits_are_bounded():
    parts = 50 * torch.randn(2, 3 * 8, 3, 3, dtype=torch.float64)
    out, found = attend(parts, heads=2), []
    for query, key, value in zip(*(part.split(4, 1) for part in parts.chunk(3, 1)), strict=True):
        q, k, v = (normalise(x.flatten(2), (1,)) for x in (query, key, value))  # [B, 4, 9]
        logits = torch.einsum("bci,bcj->bij", q, k) / 2
        assert logits.abs().max() <= 2 + 1e-9  # sqrt(C)
        found.append(torch.einsum("bij,bcj->bci", logits.softmax(-1), v))
    assert torch.allclose(out, torch.cat(found, 1).view_as(out), atol=1e-12)


def test_the_rate_rises_then_stays_then_falls_with_the_root():
    rates = [decay_rate(1.0, step, warmup=10, start=100) for step in (0, 4, 9, 100, 400, 10_000)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.5, 0.1])
    assert decay_rate(1.0, 10_000, warmup=0, start=None) == 1.0


def test_preconditioning_makes_inputs_and_targets_of_variance_one():
    sigma = torch.tensor([0.002, 0.1, 0.5, 3.0, 80.0], dtype=torch.float64)[:, None]
    of = precondition(sigma)
    assert torch.allclose(of.into**2 * (DATA_SIGMA**2 + sigma**2), torch.ones_like(sigma))
    x, noise = DATA_SIGMA * torch.randn(5, N, dtype=torch.float64), torch.randn(5, N, dtype=torch.float64)
    target = (x - of.skip * (x + sigma * noise)) / of.out
    assert torch.allclose(target.square().mean(1), torch.ones(5, dtype=torch.float64), atol=0.02)
    best = ((x - of.skip * (x + sigma * noise)) * (x + sigma * noise)).mean(1)  # what is left is not correlated
    assert torch.allclose(best / DATA_SIGMA**2, torch.zeros(5, dtype=torch.float64), atol=0.5)


def test_the_loss_is_the_error_of_the_prediction_over_c_out_squared():
    torch.manual_seed(1)
    x, noise, log_sigma = DATA_SIGMA * torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4), torch.randn(3)
    sigma = log_sigma.exp()[:, None, None, None]
    of = precondition(sigma)

    def network(y: Tensor, label: Tensor) -> Tensor:
        return 0.3 * y + label[:, None, None, None]

    noisy = x + sigma * noise
    predicted = of.skip * noisy + of.out * network(of.into * noisy, log_sigma / 4)
    weight = (sigma**2 + DATA_SIGMA**2) / (sigma * DATA_SIGMA) ** 2
    expected = (weight * (predicted - x) ** 2).mean((1, 2, 3))
    assert torch.allclose(weigh_losses(network, x, log_sigma, noise), expected, rtol=1e-4)
