"""What is known of the networks that people use: which argument is the time, on what scale, and example inputs."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline.audit.call import list_names
from pipeline.schema.base import SpecError

COUNT = 11
"""Times at which sites are measured, where nothing else is asked for."""
_FEW = 5
"""Levels from one time to the next from which on they are whole."""
_BATCH, _TOKENS, _SIZE = 2, 4, 32
_LEVELS, _UNIT, _LOG_SIGMAS = (0.0, 999.0), (0.0, 1.0), (-1.5, 1.0)
_NAMES = {
    "timestep": _LEVELS, "timesteps": _LEVELS, "t": _UNIT, "time": _UNIT, "times": _UNIT, "time_steps": _LEVELS,
    "sigma": (0.01, 80.0), "sigmas": (0.01, 80.0), "noise_labels": _LOG_SIGMAS, "noise_level": _LEVELS,
    "noise_levels": _LEVELS, "c_noise": _LOG_SIGMAS, "level": _LEVELS, "levels": _LEVELS, "labels": _LEVELS,
    "log_snr": (-10.0, 10.0), "lambda_t": (-10.0, 10.0), "gamma": (-10.0, 10.0), "time_cond": _LEVELS,
}  # fmt: skip
"""Usual names of the argument, the likeliest first, and the scale that goes with each."""
Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Adapter:
    """What is known of a class of networks."""

    time: str
    times: tuple[float, float]
    inputs: Callable[[Any], Inputs] | None = None
    """Example inputs of a network of this class."""
    data_first: bool = False
    """Whether flow matching has the data at the first time, and noise at the last."""


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _size(network: Any, fallback: int = _SIZE) -> tuple[int, int]:
    size = network.config.sample_size or fallback
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _make_images(network: Any) -> Inputs:
    return {"sample": _draw(_BATCH, network.config.in_channels, *_size(network))}


def _make_conditioned(network: Any) -> Inputs:
    width = network.config.cross_attention_dim
    text = _draw(_BATCH, _TOKENS, width if isinstance(width, int) else width[0])
    return {**_make_images(network), "encoder_hidden_states": text}


def _make_dit(network: Any) -> Inputs:
    hidden = _draw(_BATCH, network.config.in_channels, *_size(network))
    return {"hidden_states": hidden, "class_labels": torch.zeros(_BATCH, dtype=torch.long)}


def _make_sd3(network: Any) -> Inputs:
    config = network.config
    return {
        "hidden_states": _draw(_BATCH, config.in_channels, *_size(network)),
        "encoder_hidden_states": _draw(_BATCH, _TOKENS, config.joint_attention_dim),
        "pooled_projections": _draw(_BATCH, config.pooled_projection_dim),
    }


def _make_flux(network: Any) -> Inputs:
    config, side = network.config, 4
    places = torch.stack(torch.meshgrid(torch.arange(1), torch.arange(side), torch.arange(side), indexing="ij"), -1)
    inputs = {
        "hidden_states": _draw(_BATCH, side * side, config.in_channels),
        "encoder_hidden_states": _draw(_BATCH, _TOKENS, config.joint_attention_dim),
        "pooled_projections": _draw(_BATCH, config.pooled_projection_dim),
        "img_ids": places.reshape(-1, 3).float(),
        "txt_ids": torch.zeros(_TOKENS, 3),
    }
    return inputs | ({"guidance": torch.ones(_BATCH)} if config.guidance_embeds else {})


def _make_guided(network: Any) -> Inputs:
    size = network.image_size if isinstance(network.image_size, int) else network.image_size[-1]
    return {"x": _draw(_BATCH, network.in_channels, size, size)}


def _make_ours(network: Any) -> Inputs:
    return {"x": _draw(_BATCH, network.conv_in.in_channels, network.image_size, network.image_size)}


def _make_features(network: Any) -> Inputs:
    size = network.conv1.size
    return {"x": _draw(_BATCH, network.conv1.bias.shape[0], size, size), "t": torch.tensor(0.0)}


ADAPTERS = {
    "diffusers UNet2DModel": Adapter("timestep", _LEVELS, _make_images),
    "diffusers UNet2DConditionModel": Adapter("timestep", _LEVELS, _make_conditioned),
    "diffusers UNet1DModel": Adapter("timestep", _LEVELS),
    "diffusers DiTTransformer2DModel": Adapter("timestep", _LEVELS, _make_dit),
    "diffusers SD3Transformer2DModel": Adapter("timestep", (1.0, 1000.0), _make_sd3, data_first=True),
    "diffusers FluxTransformer2DModel": Adapter("timestep", _UNIT, _make_flux, data_first=True),  # x 1000 inside
    "torchcfm UNetModel": Adapter("t", _UNIT, _make_guided),
    "guided_diffusion UNetModel": Adapter("timesteps", _LEVELS, _make_guided),
    "denoising_diffusion_pytorch Unet": Adapter("time", _LEVELS),
    "denoising_diffusion_pytorch KarrasUnet": Adapter("time", _LOG_SIGMAS),
    "pipeline UNet": Adapter("level", _LEVELS, _make_ours),
    "pipeline OdeFunction": Adapter("t", _UNIT, _make_features),
}
"""By package and class."""


def find_adapter(network: nn.Module) -> tuple[str, Adapter] | None:
    """What is known of a network's class, or of what it derives from."""
    for kind in type(network).__mro__:
        name = f"{kind.__module__.partition('.')[0]} {kind.__name__}"
        if name in ADAPTERS:
            return name, ADAPTERS[name]
    return None


def make_inputs(network: nn.Module) -> Inputs:
    """Example inputs of a network of a known class.

    Raises:
        SpecError: it is not known.
    """
    known = find_adapter(network)
    if known is None or known[1].inputs is None:
        takes = inspect.signature(network.forward)
        raise SpecError(
            f"{type(network).__name__}{takes}: no example inputs are known of it; let the factory return "
            "(module, inputs), inputs a dict or a tuple"
        )
    return known[1].inputs(network)


@dataclass(frozen=True)
class Guess:
    """Which argument is the time, its values, and how that is known."""

    time: str | int
    times: Sequence[float]
    notes: Sequence[str]


def spread_times(start: float, stop: float, count: int = COUNT) -> list[float]:
    """Evenly spaced times; of levels, the nearest whole ones."""
    times = [start + (stop - start) * place / (count - 1) for place in range(count)]
    levels = start == round(start) and stop == round(stop) and abs(stop - start) >= _FEW * count
    return [float(round(t)) for t in times] if levels else times


def _guess_time(network: nn.Module, given: Sequence[str]) -> str:
    names = list(dict.fromkeys([*list_names(network), *given]))
    found = next((name for name in _NAMES if name in names), None)
    if found is None:
        raise SpecError(
            f"{type(network).__name__}: none of its arguments ({', '.join(names)}) has a name that says time: name it "
            "(time=..., or --time)"
        )
    return found


def guess(network: nn.Module, time: str | int | None, times: Sequence[float] | None, given: Sequence[str]) -> Guess:
    """Fill in what the user has not said.

    Args:
        given: names of the inputs.

    Raises:
        SpecError: no argument's name says time.
    """
    known, notes = find_adapter(network), list[str]()
    if time is None:
        time = known[1].time if known else _guess_time(network, given)
        source = f"as in {known[0]}" if known else "by its name"
        notes.append(f"the time is {time!r}, {source} (another: --time NAME)")
    if times is None:
        last = str(time).split(".")[-1]
        start, stop = known[1].times if known and known[1].time == time else _NAMES.get(last, _UNIT)
        times = spread_times(start, stop)
        notes.append(f"times from {start:g} to {stop:g} (others: --times from:to:count)")
    return Guess(time, list(times), notes)
