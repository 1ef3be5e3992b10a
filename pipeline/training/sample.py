"""Sampling from a trained diffusion model's averaged weights (facts 3.4)."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.diffusion.sample import quantise_images, sample_ancestral
from pipeline.diffusion.schedule import make_schedule
from pipeline.networks.unet import UNet
from pipeline.schema.compute import Compute
from pipeline.schema.ddpm import DdpmRun, Sampling
from pipeline.training.outputs import load_weights, read_run
from pipeline.training.progress import show_progress
from pipeline.training.seeding import make_generator


def sample_ddpm(
    folder: Path, sampling: Sampling, image_channels: int, compute: Compute, device: str
) -> NDArray[np.uint8]:
    """Sample images [N, C, H, W] from the averaged weights of a trained model.

    Args:
        folder: what `train_ddpm` wrote.
    """
    run, _ = read_run(folder / "run.json", DdpmRun)
    size = run.training.image_size
    network = UNet(run.network, image_channels, size)
    load_weights(folder / "ema.safetensors", network)
    network.to(device).eval()
    schedule = make_schedule(run.diffusion.levels, run.diffusion.beta_min, run.diffusion.beta_max)
    starts = range(0, sampling.images, sampling.batch_size)
    bar = show_progress(len(starts) * sampling.steps, f"sample {run.arm}", "step")
    chunks = []
    for start in starts:
        generator = make_generator(device, run.seed, "sampling", start)
        count = min(sampling.batch_size, sampling.images - start)
        x = torch.randn((count, image_channels, size, size), generator=generator, device=device)
        with torch.autocast(device, torch.bfloat16, enabled=compute.precision == "bfloat16"):
            x = sample_ancestral(
                network, schedule, x, sampling.steps, sampling.labels, sampling.variance, generator, bar.update
            )
        chunks.append(quantise_images(x, sampling.quantisation).cpu().numpy())
    bar.close()
    return np.concatenate(chunks)
