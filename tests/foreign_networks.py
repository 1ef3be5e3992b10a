"""Networks as a user might bring them."""

import torch
from torch import Tensor, nn


class BlindDenoiser(nn.Module):
    """Takes a timestep and ignores it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        return self.conv(sample)


class ToldDenoiser(nn.Module):
    """Multiplies its input by a function of t, as the optimum does; counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 1))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return x * self.mlp(t[:, None] / 999)[:, :, None, None]


class Told(nn.Module):
    """An ODE function of any width with a channel of t."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + 1, channels, 3, padding=1)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(torch.cat([x, t * torch.ones_like(x[:, :1])], 1)))


class BlindByBatch(nn.Module):
    """An ODE function that batch norm blinds, written as a user would: time last, x overwritten."""

    def __init__(self, channels: int, image_size: int) -> None:
        super().__init__()
        assert image_size > 0
        self.conv, self.v = nn.Conv2d(channels, channels, 3, padding=1), nn.Parameter(torch.ones(channels, 1, 1))
        self.norm = nn.BatchNorm2d(channels, track_running_stats=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.norm(self.conv(x.mul_(1.5)) + time * self.v)


class Embedded(nn.Module):
    """Looks whole levels up in a table; returns what diffusers returns."""

    class Output:
        def __init__(self, sample: Tensor) -> None:
            self.sample = sample

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 1)

    def forward(self, x: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> "Embedded.Output":
        return self.Output(x * self.table(timesteps)[:, :, None, None])


class Crowded(nn.Module):
    """Needs more than data and time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.conv(x) + t + y


class Strided(nn.Module):
    """Gives another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, stride=2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.conv(x)


class Broken(Strided):
    """Gives NaN."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * self.conv.weight.sum() / 0 * 0


class Odd(Strided):
    """Has no argument that looks like the time."""

    def forward(self, x: Tensor, when: Tensor) -> Tensor:
        return x * self.conv.weight.sum() * when[:, None, None, None]


def fail() -> nn.Module:
    raise KeyError("weights")


def leave() -> nn.Module:
    raise SystemExit(2)


def need(path: str) -> nn.Module:
    return nn.Linear(1, 1)


def return_nothing() -> None:
    return None


def freeze() -> nn.Module:
    return nn.Identity()


NUMBER = 3
