"""What the GPU benchmark measures: a kind of step, by us or by the plain peer, under one setting. See benchmarks.gpu.

Each cell is measured in a process of its own. All sides get the same weights, images and random numbers.
"""

import gc
import hashlib
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch._dynamo  # an optimiser imports it with its first step, which takes seconds
from torch import Tensor
from torch.nn import functional

from pipeline.compute.device import choose_device
from pipeline.compute.seeding import make_generator, seed_global
from pipeline.data.arrays import Split
from pipeline.data.batches import normalise_images, scale_images
from pipeline.diffusion.sample import level_input
from pipeline.layers.flops import count_flops
from pipeline.run.outputs import digest_tensors
from pipeline.schema.compute import Compute
from pipeline.schema.study import find_study, load_study_spec, resolve_later, resolve_run
from pipeline.studies.ddpm.sampler import DdpmSampler
from pipeline.studies.ddpm.study import DdpmRun
from pipeline.studies.ddpm.trainer import DdpmTrainer
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.trainer import NodeTrainer, augment

ROOT = Path(__file__).resolve().parent.parent
CHECKED = 3
"""Optimiser steps whose losses are compared, and after which the weights are."""
_SAMPLING_STEPS = 4
_LEVELS = (100, 500, 900)  # at which the sampler's network is compared
_RATE = 1e-12  # while a NODE step is timed: as many function evaluations in each step
_NEAR_ZERO = 1e-4
_SECONDS, _LEAST, _MOST = 4.0, 5, 50  # of timing; timed calls
_TINY = {
    "node": {"channels": 8, "stem_channels": 8, "groups": 4, "outer_groups": 4},
    "ddpm": {"channels": 8, "groups": 2, "outer_groups": 2, "channel_multipliers": [1, 2], "blocks": 1},
}


@dataclass(frozen=True)
class Cell:
    """One row of the benchmark."""

    work: str
    """`node-256` and `node-64`: a training step with so many channels; `ddpm-training`; `ddpm-sampling`."""
    name: str
    plain: bool = False
    """The peer instead of ours."""
    precision: str = "float32"
    """`tf32` and `bfloat16` beside it."""
    compiled: bool = False
    deterministic: bool = True

    def make_compute(self, device: str) -> Compute:
        """The setting as params.yaml has it."""
        return Compute(
            device="cuda" if device == "cuda" else "cpu",
            precision="bfloat16" if self.precision == "bfloat16" else "float32",
            tf32=self.precision == "tf32",
            compile=self.compiled,
            deterministic=self.deterministic,
            portable=False,
            threads=torch.get_num_threads(),
        )


class Work(Protocol):
    """A side of one kind of step."""

    batch: int
    parts: int
    """Steps in a call of `step`."""

    def step(self, index: int) -> Tensor:
        """Take step number `index`, from 0; returns the loss, or of sampling the images."""

    def check(self) -> list[float]:
        """Take `CHECKED` steps; returns numbers that another side must agree with."""

    def digest(self) -> str:
        """SHA-256 of the weights, or of the sampled images."""

    def list_state(self) -> dict[str, Tensor]:
        """What steps change."""

    def prepare(self) -> None:
        """Called before steps are timed."""

    def describe(self) -> dict[str, Any]:
        """More of what was measured."""


def resolve(study: str, arm: str, tiny: bool, **fields: Any) -> Any:
    """The run of an arm on CIFAR-10, seed 0; or one of its shape that takes no time."""
    run = resolve_run(find_study(study), load_study_spec(ROOT, study), "cifar10", arm, 0)[0]
    small = {**_TINY[study], "attention_sizes": [8]} if study == "ddpm" else _TINY[study]
    network = run.network.model_copy(update={**fields, **(small if tiny else {})})
    size = {"batch_size": 4, "image_size": 16} if tiny else {}
    return run.model_copy(update={"network": network, "training": run.training.model_copy(update=size)})


def draw_images(run: NodeRun | DdpmRun) -> Split:
    """A batch of random colour images and labels."""
    batch, size = run.training.batch_size, run.training.image_size
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, size, size), dtype=np.uint8)
    return Split(images, np.arange(batch, dtype=np.int64) % 10, 10)


class _Training(ABC):
    """What the trainings have in common."""

    parts = 1
    batch: int

    @abstractmethod
    def step(self, index: int) -> Tensor:
        pass

    @abstractmethod
    def list_state(self) -> dict[str, Tensor]:
        pass

    def check(self) -> list[float]:
        return [self.step(index).item() for index in range(CHECKED)]

    def digest(self) -> str:
        return digest_tensors({name: value.detach().cpu() for name, value in self.list_state().items()})

    def prepare(self) -> None:
        """Nothing, unless a study says else."""
        return

    def describe(self) -> dict[str, Any]:
        return {}


class NodeTraining(_Training):
    """Our training of a NODE."""

    def __init__(self, cell: Cell, device: str, tiny: bool) -> None:
        run = resolve("node", "baseline", tiny, channels=int(cell.work.removeprefix("node-")))
        self.trainer = NodeTrainer(run, draw_images(run), cell.make_compute(device), device)
        self.batch, self.nfe = run.training.batch_size, (0, 0)
        self.indices = torch.arange(self.batch, device=device)

    def step(self, index: int) -> Tensor:
        tally = self.trainer.begin_epoch()
        self.trainer.step(index, self.indices, tally)
        self.nfe = (tally.nfe[0], sum(tally.nfe_backward))
        return tally.loss / self.batch

    def list_state(self) -> dict[str, Tensor]:
        return self.trainer.list_state()

    def prepare(self) -> None:
        self.trainer.optimiser.param_groups[0]["lr"] = _RATE

    def describe(self) -> dict[str, Any]:
        """NFE of the solves, and the time of a batch of the test split."""
        images = self.trainer.normalise(draw_images(self.trainer.run).images)
        predict = [_time(lambda: self.trainer.predict(images)) for _ in range(3)]
        return {"nfe": self.nfe, "predict_ms": statistics.median(predict) * 1000}


class PlainNodeTraining(NodeTraining):
    """The same step with torchdiffeq's odeint_adjoint over eager modules."""

    def __init__(self, cell: Cell, device: str, tiny: bool) -> None:
        from benchmarks.plain_node import PlainClassifier

        super().__init__(cell, device, tiny)
        training = self.trainer.run.training
        self.model = PlainClassifier(self.trainer.network).to(device).train()
        self.trainer.network.field = None  # type: ignore[assignment]
        self.optimiser = torch.optim.SGD(
            self.model.parameters(), training.learning_rate, training.momentum, weight_decay=training.weight_decay
        )
        for value in self.model.parameters():
            self.optimiser.state[value] = {"momentum_buffer": torch.zeros_like(value)}

    def step(self, index: int) -> Tensor:
        trainer, training = self.trainer, self.trainer.run.training
        generator = make_generator(trainer.device, trainer.run.seed, "augmentation", index)
        x = augment(scale_images(trainer.images[self.indices]), training, generator)
        seed_global(trainer.run.seed, "dropout", index)
        self.model.field.nfe = 0
        logits = self.model(normalise_images(x, training.mean, training.std))
        loss = functional.cross_entropy(logits, trainer.labels)
        self.optimiser.zero_grad(set_to_none=True)
        forward = self.model.field.nfe
        loss.backward()
        self.nfe = (forward, self.model.field.nfe - forward)
        self.optimiser.step()
        return loss.detach()

    def list_state(self) -> dict[str, Tensor]:
        state = dict(self.model.state_dict())
        for name, value in self.model.named_parameters():
            state[f"momentum.{name}"] = self.optimiser.state[value]["momentum_buffer"]
        return state

    def prepare(self) -> None:
        self.optimiser.param_groups[0]["lr"] = _RATE

    def describe(self) -> dict[str, Any]:
        return {"nfe": self.nfe}


def _stir(network: torch.nn.Module, device: str) -> None:
    """Move the layers that begin near zero, which would hide whether sides agree."""
    generator = torch.Generator(device).manual_seed(3)
    with torch.no_grad():
        for value in network.parameters():
            if value.ndim > 1 and value.abs().max() < _NEAR_ZERO:
                value.normal_(std=0.02, generator=generator)


class DdpmTraining(_Training):
    """Our training of a U-Net; with attention after every block on the way up, as the peer knows nothing else."""

    def __init__(self, cell: Cell, device: str, tiny: bool) -> None:
        run = resolve("ddpm", "up_attention=each", tiny)
        self.trainer = DdpmTrainer(run, draw_images(run), cell.make_compute(device), device)
        _stir(self.trainer.network, device)
        self.batch = run.training.batch_size
        self.indices = torch.arange(self.batch, device=device)

    def step(self, index: int) -> Tensor:
        self.trainer.average.updates = index
        return self.trainer.step(index + self.trainer.run.training.warmup, self.indices)

    def list_state(self) -> dict[str, Tensor]:
        return self.trainer.list_state()


class PlainDdpmTraining(DdpmTraining):
    """The same step in the shape of diffusers' example."""

    def __init__(self, cell: Cell, device: str, tiny: bool) -> None:
        from benchmarks.plain_ddpm import PlainTrainer

        super().__init__(cell, device, tiny)
        self.plain = PlainTrainer(self.trainer, resolve_sampling(tiny))
        self.trainer.network.cpu()  # its memory is none of the peer's
        self.trainer.average.averages.clear()
        self.trainer.optimiser.state.clear()

    def step(self, index: int) -> Tensor:
        step = index + self.trainer.run.training.warmup
        drawn = self.trainer.draw(step, self.indices)
        seed_global(self.trainer.run.seed, "dropout", step)
        return self.plain.update(self.plain.find_loss(*drawn))

    def list_state(self) -> dict[str, Tensor]:
        return dict(self.plain.unet.state_dict())


def resolve_sampling(tiny: bool) -> Any:
    """CIFAR-10's settings of sampling, with few steps."""
    sampling = resolve_later(find_study("ddpm"), load_study_spec(ROOT, "ddpm"), "cifar10")["sampling"]
    return sampling.model_copy(
        update={"steps": _SAMPLING_STEPS, "labels": "integer", **({"batch_size": 4} if tiny else {})}
    )


class DdpmSampling:
    """Our sampling of a batch, some steps of it."""

    parts = _SAMPLING_STEPS

    def __init__(self, cell: Cell, device: str, tiny: bool) -> None:
        run = resolve("ddpm", "up_attention=each", tiny)
        seed_global(run.seed, "initialisation")
        sampling = resolve_sampling(tiny)
        self.sampler = DdpmSampler(run, sampling, 3, cell.make_compute(device), device)
        _stir(self.sampler.network, device)
        self.batch, self.device, self.images = sampling.batch_size, device, torch.empty(0)
        generator = torch.Generator(device).manual_seed(1)
        self.x = torch.randn((self.batch, *self.sampler.shape), generator=generator, device=device)

    def step(self, index: int) -> Tensor:
        self.images = self.sampler.sample(torch.arange(self.batch))
        return self.images

    def predict(self, level: int) -> Tensor:
        """The noise in fixed images."""
        with self.sampler.autocast:
            given = level_input(level, self.sampler.schedule.levels, self.sampler.sampling.labels)
            return self.sampler.network(self.x, torch.full((1,), given, device=self.device)).float()

    @torch.no_grad()
    def check(self) -> list[float]:
        self.step(0)
        return [functional.mse_loss(self.predict(level), self.x).item() for level in _LEVELS]

    def digest(self) -> str:
        return hashlib.sha256(self.images.numpy().tobytes()).hexdigest()

    def list_state(self) -> dict[str, Tensor]:
        return {}

    def prepare(self) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {}


class PlainDdpmSampling(DdpmSampling):
    """The same in the loop of diffusers' DDPMPipeline."""

    def __init__(self, cell: Cell, device: str, tiny: bool) -> None:
        from benchmarks.plain_ddpm import PlainTrainer

        super().__init__(cell, device, tiny)
        training = DdpmTraining(cell, device, tiny)
        training.trainer.network.load_state_dict(self.sampler.network.state_dict())
        self.plain = PlainTrainer(training.trainer, resolve_sampling(tiny))
        self.plain.unet.eval()
        del self.plain.average  # a copy of the weights, which sampling does not need
        self.sampler.network.cpu()

    def step(self, index: int) -> Tensor:
        self.images = self.plain.sample(self.x).cpu()
        return self.images

    def predict(self, level: int) -> Tensor:
        with self.plain.autocast:
            return self.plain.unet(self.x, level).sample.float()


def make_work(cell: Cell, device: str, tiny: bool) -> Work:
    """The side of the step that a cell measures."""
    kinds: dict[tuple[str, bool], Callable[[Cell, str, bool], Work]] = {
        ("node", False): NodeTraining,
        ("node", True): PlainNodeTraining,
        ("ddpm-training", False): DdpmTraining,
        ("ddpm-training", True): PlainDdpmTraining,
        ("ddpm-sampling", False): DdpmSampling,
        ("ddpm-sampling", True): PlainDdpmSampling,
    }
    return kinds["node" if cell.work.startswith("node") else cell.work, cell.plain](cell, device, tiny)


def _synchronise() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _time(call: Callable[[], object]) -> float:
    """Seconds."""
    _synchronise()
    start = time.perf_counter()
    call()
    _synchronise()
    return time.perf_counter() - start


def describe_machine(device: str) -> dict[str, Any]:
    """The device and the versions.

    Raises:
        ValueError: a GPU is asked for, and torch sees none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU here; `--device cpu --tiny` tries the command")
    found: dict[str, Any] = {"torch": torch.__version__, "numpy": np.__version__}
    if device == "cuda":
        return {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda, **found}
    return {"device": "cpu", **found}


def count_step(work: Work) -> int:
    """FLOPs of a step."""
    work.prepare()
    return count_flops(lambda: work.step(0)) // work.parts


def count_eagerly(cell: Cell, device: str, tiny: bool) -> int:
    """FLOPs of a compiled cell's step: the compiler hides them, so another work counts them, and is gone then."""
    flops = count_step(make_work(replace(cell, compiled=False), device, tiny))
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return flops


def measure_cell(cell: Cell, device: str, tiny: bool) -> dict[str, Any]:
    """Time, memory, FLOPs of a cell, and what its checks need."""
    choose_device(cell.make_compute(device))
    flops = count_eagerly(cell, device, tiny) if cell.compiled else 0
    work = make_work(cell, device, tiny)
    kept = {name: value.detach().to("cpu", copy=True) for name, value in work.list_state().items()}

    def restore() -> None:
        with torch.no_grad():
            for name, value in work.list_state().items():
                value.copy_(kept[name])

    first: list[float] = []
    first_seconds = _time(lambda: first.extend(work.check()))
    digest = work.digest()
    restore()
    same = None
    if not cell.plain:
        work.check()
        same = work.digest() == digest
        restore()
    work.prepare()
    work.step(0)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    budget, least = (0.0, 2) if tiny else (_SECONDS, _LEAST)
    while len(seconds) < least or (sum(seconds) < budget and len(seconds) < _MOST):
        seconds.append(_time(lambda: work.step(len(seconds))) / work.parts)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
    flops = flops or count_step(work)
    low, middle, high = statistics.quantiles(seconds, n=4)
    return {
        "ms": middle * 1000,
        "ms_quartiles": [low * 1000, high * 1000],
        "timed": len(seconds),
        "batch": work.batch,
        "first_check_s": first_seconds,
        "peak_gb": peak,
        "flops": flops,
        "tflops": flops / middle / 1e12,
        "check": first,
        "digest": digest,
        "same_bytes": same,
        **({} if cell.compiled else work.describe()),  # another mode of the network would be compiled anew
    }
