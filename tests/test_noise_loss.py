"""DDPM's loss on the test split, with right and wrong levels."""

import pytest
import torch
from problems import ddpm_network
from torch import Tensor, nn

from pipeline.diffusion.path import Schedule, add_noise
from pipeline.diffusion.schedule import make_schedule
from pipeline.schema.diffusion import Diffusion
from pipeline.studies.ddpm.noise_losses import choose_levels, measure_noise_losses, shuffle_levels
from pipeline.studies.ddpm.unet import UNet

SCHEDULE = make_schedule(Diffusion(levels=1000, beta_min=0.1, beta_max=20.0))


class Recorder(nn.Module):
    """A denoiser that predicts nothing and keeps what it is given."""

    def __init__(self, levels: int = 1000) -> None:
        super().__init__()
        self.levels = levels
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        self.seen.append((x, level.expand(len(x))))
        return torch.zeros_like(x)


class Oracle(Recorder):
    """Knows the one image that all are, and so the noise, if the level is right."""

    def __init__(self, schedule: Schedule, image: Tensor) -> None:
        super().__init__()
        self.schedule, self.image = schedule, image

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        path = self.schedule(level.round().long())
        mean = add_noise(path, self.image.expand_as(x), torch.zeros_like(x))
        return (x - mean) / path.sigma.view(-1, 1, 1, 1)


def make_images(count: int = 30) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(count, 1, 8, 8) * 2 - 1


def test_the_levels_are_midpoints():
    assert choose_levels(1000) == [25, 75, 125, 175, 225, 275, 325, 375, 425, 475, 524, 574, 624, 674, 724, 774, 824,
                                   874, 924, 974]  # fmt: skip


def test_wrong_levels_are_the_right_ones_in_another_order():
    levels = torch.arange(20.0)
    told = shuffle_levels(50, levels)
    assert sorted(told.flatten().tolist()) == sorted(levels.tolist() * 50)
    assert (told == levels[:, None]).float().mean() < 0.1  # by chance: a twentieth
    assert torch.equal(told, shuffle_levels(50, levels))


def test_noise_is_the_same_for_all_arms_and_batch_sizes():
    recorders, x = (Recorder(), Recorder()), make_images()
    measure_noise_losses(recorders[0], SCHEDULE, x, 30)
    measure_noise_losses(recorders[1], SCHEDULE, x, 7)
    for kind in range(3):  # right, shuffled, mean
        whole = [recorder.seen[kind::3] for recorder in recorders]
        inputs, told = ([torch.cat([pair[part] for pair in seen]) for seen in whole] for part in (0, 1))
        assert torch.equal(*inputs)
        assert torch.equal(*told)
    assert not torch.equal(recorders[0].seen[0][0], recorders[0].seen[3][0])


def test_who_knows_the_image_errs_only_when_told_a_wrong_level():
    image = make_images(1)
    found = measure_noise_losses(Oracle(SCHEDULE, image), SCHEDULE, image.repeat(30, 1, 1, 1), 8)
    assert max(found.right) < 1e-9
    assert min(found.shuffled) > 1e-3
    assert found.mean_level[0] > 1.0 > found.mean_level[9] > 0.0


def test_who_predicts_nothing_has_the_variance_of_the_noise_at_every_level():
    found = measure_noise_losses(Recorder(), SCHEDULE, make_images(200), 64)
    assert found.right == pytest.approx([1.0] * 20, abs=0.05)
    assert found.right == found.shuffled == found.mean_level


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"time": "none"}, {"norm": "instance", "groups_scope": "sites"}], ids=str)
def test_to_a_blind_network_all_levels_are_equal(fields: dict[str, str]):
    torch.manual_seed(0)
    for position, blind in (("none", True), ("mlp", False)):
        network = UNet(ddpm_network(**fields, position=position), 1, 8, 1000)
        for value in network.parameters():
            nn.init.normal_(value, std=0.3)
        found = measure_noise_losses(network, SCHEDULE, make_images(), 16)
        assert (found.shuffled == pytest.approx(found.right, rel=1e-4)) == blind
        assert (found.mean_level == pytest.approx(found.right, rel=1e-4)) == blind
