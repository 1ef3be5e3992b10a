"""The audit's numbers on networks whose truth is known, and what it leaves untouched."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.audit.conclusion import conclude
from pipeline.audit.embedding import measure_rank
from pipeline.audit.examination import audit
from pipeline.audit.findings import Audit, SiteFacts
from pipeline.schema.base import SpecError

TIMES = (0.0, 0.5, 1.0)
CHANNELS = 4


class Offset(nn.Module):
    """Adds one offset per channel before a norm; `embed` makes it of t [B]."""

    def __init__(self, norm: Callable[[Tensor], Tensor], scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.embed = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.Linear(1, CHANNELS)
        self.norm, self.scale = norm, scale

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        offset = self.scale * self.embed(t[:, None])[:, :, None, None]
        return functional.silu(self.norm(self.conv(x) + offset))


def images(channels: int = CHANNELS, size: int = 6) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def look(network: nn.Module, **options: object) -> Audit:
    return audit(network, {"x": images()}, times=TIMES, **options)


def find_site(network: nn.Module, **options: object) -> SiteFacts:
    (site,) = look(network, **options).sites
    return site


def functional_group_norm(groups: int) -> Callable[[Tensor], Tensor]:
    """Group normalisation that no module and no operation of its own tells."""

    def norm(x: Tensor) -> Tensor:
        grouped = x.reshape(len(x), groups, -1)
        mean = grouped.mean(-1, keepdim=True)
        var = ((grouped - mean) ** 2).mean(-1, keepdim=True)
        return ((grouped - mean) / torch.sqrt(var + 1e-5)).reshape(x.shape)

    return norm


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        (nn.GroupNorm(CHANNELS, CHANNELS), "group"),
        (nn.InstanceNorm2d(CHANNELS, affine=True), "instance"),
        (nn.BatchNorm2d(CHANNELS), "batch"),
        (functional_group_norm(CHANNELS), "arithmetic"),
    ],
)
def test_a_norm_by_channel_cancels_an_offset_per_channel(norm: Callable, kind: str):
    """The paper's Equation 5."""
    site = find_site(Offset(norm))
    assert (site.kind, site.norm and site.norm.kind) == ("added", kind)
    assert (site.survival, site.survival_by_channel, site.change_behind) == (0, 0, 0)
    assert site.offset_part == pytest.approx(1, abs=1e-12)
    assert site.change_before is not None and site.change_before > 0.1
    assert site.share is not None and site.share < 1e-24
    assert not site.passes


def test_a_batch_normalisation_with_running_statistics_cancels_nothing():
    site = find_site(Offset(nn.BatchNorm2d(CHANNELS)).eval())
    assert site.survival == 1  # not nearly
    assert site.survival_by_channel == 0
    assert site.norm is not None and not site.norm.batch_statistics


@pytest.mark.parametrize("groups", [1, 2])
def test_a_functional_group_norm_has_the_numbers_of_the_module(groups: int):
    built = find_site(Offset(nn.GroupNorm(groups, CHANNELS)))
    written = find_site(Offset(functional_group_norm(groups)))
    assert built.survival is not None and 0.05 < built.survival < 1
    for name in ("change_before", "change_behind", "offset_part", "survival", "survival_by_channel", "share"):
        assert getattr(written, name) == pytest.approx(getattr(built, name), abs=1e-12), name


def test_survival_is_what_the_definition_says():
    network = Offset(nn.GroupNorm(2, CHANNELS)).double()
    with torch.no_grad():
        kept = network.conv(images().double())
        z = [kept + network.embed(torch.full((2, 1), t, dtype=torch.float64))[:, :, None, None] for t in TIMES]
        n = [network.norm(one) for one in z]
        grouped = z[0].reshape(2, 2, -1)
        rstd = (grouped.var(-1, correction=0) + 1e-5).rsqrt()
        frozen = [((one - z[0]).reshape(2, 2, -1) * rstd[..., None]).norm() for one in z[1:]]
        survived = [(one - n[0]).norm() / whole for one, whole in zip(n[1:], frozen, strict=True)]
        behind = [(one - n[0]).norm() / n[0].norm() for one in n[1:]]
    site = find_site(network)
    assert site.survival == pytest.approx(float(sum(survived)) / 2, abs=1e-12)
    assert site.changes == pytest.approx([float(one) for one in behind], abs=1e-12)
    assert site.change_behind == pytest.approx(float(sum(behind)) / 2, abs=1e-12)


def test_a_layer_normalisation_leaves_part_of_an_offset():
    site = find_site(Offset(nn.LayerNorm((CHANNELS, 6, 6))))
    assert site.survival is not None and 0.05 < site.survival < 1.2
    assert (site.survival_by_channel, site.channel_axis) == (0, 1)


def test_an_rms_norm_has_no_mean_to_subtract():
    """EDM2 and others normalise by `linalg_vector_norm` alone."""
    site = find_site(Offset(lambda x: functional.normalize(x, dim=1) * math.sqrt(CHANNELS)))
    assert site.norm is not None and site.norm.kind == "rms"
    assert site.survival is not None and site.survival > 0.1


@pytest.mark.parametrize(
    "norm", [nn.RMSNorm((CHANNELS, 6, 6)), nn.Sequential(nn.AvgPool2d(2), nn.GroupNorm(2, CHANNELS))]
)
def test_norms_behind_other_linear_operations_are_found(norm: nn.Module):
    assert find_site(Offset(norm)).norm is not None


@pytest.mark.parametrize(
    "after",
    [
        nn.Identity(),
        nn.Sequential(nn.SiLU(), nn.GroupNorm(2, CHANNELS)),
        lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    ],
)
def test_without_a_norm_nothing_cancels(after: Callable):
    site = find_site(Offset(after))
    assert (site.norm, site.survival, site.survival_by_channel, site.change_behind) == (None, None, None, None)
    assert site.change_before is not None and site.change_before > 0


class Concat(nn.Module):
    """t as a channel of a convolution, as neural ODEs have it; a norm by channel behind."""

    def __init__(self, padding_mode: str, in_place: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(CHANNELS + 1, CHANNELS, 3, padding=1, padding_mode=padding_mode)
        self.norm, self.in_place = nn.GroupNorm(CHANNELS, CHANNELS), in_place

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        if self.in_place:
            joined = x.new_empty(len(x), CHANNELS + 1, *x.shape[2:])
            joined[:, 1:] = x
            joined[:, :1] = t.view(-1, 1, 1, 1)
        else:
            joined = torch.cat([torch.ones_like(x[:, :1]) * t.view(-1, 1, 1, 1), x], 1)
        return functional.silu(self.norm(self.conv(joined)))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("padding", "lost"), [("circular", True), ("zeros", False)])
def test_a_channel_that_is_the_time_survives_at_a_zero_padded_border_alone(padding: str, lost: bool, in_place: bool):
    """The paper's Equations 2 to 4."""
    site = find_site(Concat(padding, in_place))
    assert site.kind == "concatenated"
    assert site.norm is not None and site.norm.groups == CHANNELS
    assert (site.survival == 0) == lost
    assert site.offset_part == pytest.approx(1, abs=1e-12) if lost else site.offset_part < 0.999


class Modulated(nn.Module):
    """Scale and shift behind a norm, then a gate; a skip around all."""

    def __init__(self, zero: bool = False, fused: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.conv = nn.GroupNorm(2, CHANNELS, affine=False), nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.embed, self.last = nn.Linear(1, 3 * CHANNELS), nn.GroupNorm(2, CHANNELS)
        self.fused = fused
        if zero:
            nn.init.zeros_(self.embed.weight)
            nn.init.zeros_(self.embed.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        scale, shift, gate = self.embed(t[:, None])[:, :, None, None].chunk(3, 1)
        h = torch.addcmul(shift, self.norm(x), 1 + scale) if self.fused else self.norm(x) * (1 + scale) + shift
        return self.last(x + gate * self.conv(functional.silu(h)))


@pytest.mark.parametrize("fused", [False, True])
def test_scale_shift_behind_a_norm_and_a_gate_are_told_apart(fused: bool):
    first, second = look(Modulated(fused=fused)).sites
    assert (first.kind, first.norm) == ("scale-shift", None)
    assert (second.kind, second.norm and second.norm.kind) == ("gate", "group")
    assert second.survival is not None and second.survival > 0.1
    assert second.offset_part is not None and second.offset_part < 1


def test_zero_gates_are_seen():
    found = look(Modulated(zero=True))
    assert [site.zero for site in found.sites] == [False, True]  # 1 + scale is 1
    assert [site.change_before for site in found.sites] == [0, 0]
    assert [site.survival for site in found.sites] == [None, None]
    assert found.output.constant and not found.output.zero


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm = nn.Linear(1, CHANNELS), nn.GroupNorm(CHANNELS, CHANNELS)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x = x + self.embed(t[:, None])[:, :, None, None]
        return x + functional.silu(self.norm(x))


def test_a_skip_around_the_norm_is_said():
    site = find_site(Skip())
    assert site.passes and site.survival == 0


class InPlace(Offset):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        z = self.conv(x)
        z += self.embed(t[:, None])[:, :, None, None]
        view = z.view(len(z), CHANNELS, -1)
        view.mul_(2)
        return functional.silu(self.norm(z), inplace=True)


def test_operations_in_place_and_through_views_are_followed():
    built, written = (
        find_site(Offset(nn.GroupNorm(2, CHANNELS, eps=0))),
        find_site(InPlace(nn.GroupNorm(2, CHANNELS, eps=0))),
    )
    for name in ("change_before", "change_behind", "survival", "share"):
        assert getattr(written, name) == pytest.approx(getattr(built, name), abs=1e-12), name


class Tokens(nn.Module):
    """[B, S, C], as in a transformer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm = nn.Linear(1, CHANNELS), nn.LayerNorm(CHANNELS)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.norm(x + self.embed(t[:, None])[:, None]).relu()


def test_tokens_have_their_channels_last():
    (site,) = audit(Tokens(), torch.randn(2, 5, CHANNELS), times=TIMES).sites
    assert (site.channel_axis, site.survival_by_channel) == (2, 0)
    assert site.offset_part == pytest.approx(1, abs=1e-12)
    assert site.survival is not None and site.survival > 0.05
    (site,) = audit(Tokens(), torch.randn(2, 5, CHANNELS), times=TIMES, channels=1).sites
    assert site.channel_axis == 1 and site.offset_part is not None and site.offset_part < 0.99


class Sinusoid(nn.Module):
    """Embeds t as guided-diffusion does; torchcfm feeds it t in [0, 1] unscaled."""

    def __init__(self, scale: float = 1.0, features: int = 128) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale, self.features = scale, features
        self.layers, self.norm = nn.Linear(features, CHANNELS), nn.GroupNorm(2, CHANNELS)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        half = self.features // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)
        angles = (self.scale * t)[:, None].float() * frequencies
        embedded = torch.cat([angles.cos(), angles.sin()], -1).to(x.dtype)
        return self.norm(x + self.layers(embedded)[:, :, None, None])


@pytest.mark.parametrize(("scale", "rank", "change"), [(1, 1.019, 0.0025), (1000, 25.3, 0.81)])
def test_an_unscaled_sinusoid_resolves_one_time(scale: float, rank: float, change: float):
    embedding = audit(Sinusoid(scale), images(), times=(0, 1)).embedding
    assert embedding is not None
    assert (embedding.times, embedding.width, embedding.distinct) == (101, 128, 101)
    assert embedding.rank == pytest.approx(rank, rel=0.01)
    assert embedding.least_change == pytest.approx(change, rel=0.05)


def test_the_effective_rank_is_the_participation_ratio():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(50, 5, dtype=torch.float64) - 0).Q
    centred = torch.linalg.qr(basis - basis.mean(0)).Q
    assert measure_rank(centred[:, :3]) == pytest.approx(3, abs=1e-9)
    assert measure_rank(torch.ones(5, 2)) is None


class Truncated(nn.Module):
    """As diffusers' networks take a Python number (diffusers#13654)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Sinusoid()

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        if not isinstance(t, Tensor):
            t = torch.tensor([t], dtype=torch.long).expand(len(x))
        return self.inner(t.to(x.dtype), x)


def test_other_types_of_the_time():
    embedding = audit(Truncated(), images(), times=(0, 999)).embedding
    assert embedding is not None
    forms = {form.name: form for form in embedding.forms}
    assert forms["Python float"].note == "cut to a whole number: 0 and 0.9 are the same"
    rounded = {float(torch.tensor(float(t)).to(torch.bfloat16)) for t in range(900, 1000)}  # 937 becomes 936
    assert (forms["bfloat16"].distinct, forms["bfloat16"].times) == (len(rounded), 100)


class Squashed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, CHANNELS)
        nn.init.constant_(self.embed.weight, 100.0)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * torch.sigmoid(self.embed(t[:, None]))[:, :, None, None]


def test_saturation_is_measured():
    found = audit(Squashed(), images(), times=(0, 1)).embedding
    assert found is not None and found.saturated is not None and found.saturated > 0.8


class Blind(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x.relu()


def test_a_network_that_ignores_the_time():
    found = look(Blind())
    assert (found.sites, found.embedding, found.least_survival) == ([], None, None)
    assert conclude(found)[-1] == "The output does not change with it: the network does not use it."


class Escaping(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * torch.from_numpy(t.numpy().copy()).view(-1, 1, 1, 1)


def test_a_time_that_leaves_torch_is_not_called_unused():
    found = look(Escaping())
    assert found.sites == [] and "But the output changes with it" in conclude(found)[-1]


def test_an_audit_is_read_back():
    found = look(Offset(nn.GroupNorm(2, CHANNELS)))
    assert Audit.model_validate_json(found.model_dump_json()) == found


class Random(Offset):
    """With dropout, buffers that change, and a hook."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(functional.dropout(x, 0.5, self.training), t)


def test_nothing_of_the_network_is_changed():
    network = Random(nn.BatchNorm2d(CHANNELS)).to(torch.bfloat16)
    network.conv.register_forward_hook(lambda *_: None)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    hooks = {name: (len(one._forward_hooks), len(one._forward_pre_hooks)) for name, one in network.named_modules()}
    state, x = torch.get_rng_state(), images().to(torch.bfloat16)
    kept = x.clone()
    network.conv.weight.grad = torch.ones_like(network.conv.weight)
    found = audit(network, {"x": x}, times=TIMES)
    assert (found.mode, found.dtype) == ("training", "float64")
    assert found.sites[0].survival == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, kept)
    after = network.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())
    assert {
        name: (len(one._forward_hooks), len(one._forward_pre_hooks)) for name, one in network.named_modules()
    } == hooks
    assert network.training and network.norm.training
    assert all(value.requires_grad for value in network.parameters())
    assert torch.equal(network.conv.weight.grad, torch.ones_like(network.conv.weight))


def test_dropout_is_the_same_at_all_times():
    """Else its noise would count as what the time changes."""
    network = Random(nn.GroupNorm(CHANNELS, CHANNELS))
    assert find_site(network).survival == 0
    assert find_site(network) == find_site(network)


class Single(Offset):
    """Runs in float32 alone."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        assert x.dtype == torch.float32, "float32 is needed"
        return super().forward(x, t)


def test_a_network_that_cannot_run_in_float64_runs_in_its_own_type():
    found = look(Single(nn.GroupNorm(CHANNELS, CHANNELS)))
    assert found.dtype == "float32"
    assert any("float32 is needed" in note for note in found.notes)
    assert found.sites[0].survival == 0  # its way to the norm is run in float64 all the same


class Reading(Offset):
    """Decides by the time; the T of its graph is a tensor all the same."""

    def __init__(self, threshold: float) -> None:
        super().__init__(nn.GroupNorm(CHANNELS, CHANNELS))
        self.threshold = threshold

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if float(t[0]) > self.threshold:
            x = x.tanh()
        return super().forward(x, t)


def test_a_time_that_is_read_as_a_number_is_told():
    found = look(Reading(2.0))
    assert found.sites[0].survival == 0
    assert any("read as a Python number" in note for note in found.notes)
    with pytest.raises(SpecError, match="takes other operations at time"):
        look(Reading(0.7))
