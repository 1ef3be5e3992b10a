"""A network for all times at a fixed budget: does the density of training times decide the weight of the modes?"""

import torch
from torch import Tensor

from pipeline.compute.seeding import make_generator
from pipeline.studies.phases.density import Density, dilate_time, tabulate_turns
from pipeline.studies.phases.network import count_weight, make_network, sample_network, train_network
from pipeline.studies.phases.study import BudgetRun, PhasesRecord
from pipeline.studies.phases.uturn import find_return, make_mixture


def measure_budget(run: BudgetRun) -> PhasesRecord:
    """Train on times of a density, then sample and count.

    Raises:
        MeasureError: the loss is not finite.
    """
    mixture, denoiser = make_mixture(run.target), run.denoiser

    def draw_data(batch: int, generator: torch.Generator) -> Tensor:
        side = (torch.rand(batch, generator=generator) < mixture.weight).float()[:, None] * 2 - 1
        return side + mixture.spread * torch.randn(batch, mixture.dimension, generator=generator)

    dilation = dilate_time(run.target.k, mixture.dimension)
    density = Density(denoiser.density, dilation, lambda: tabulate_turns(lambda u: find_return(mixture, u, 1)))
    network = make_network(denoiser, mixture.dimension, mixture.spread, run.seed)
    train_network(network, density, draw_data, run.training, run.seed)
    ends = sample_network(network, dilation, denoiser.grid, denoiser.drawn, make_generator("cpu", run.seed, "samples"))
    return count_weight(ends.mean(1) > 0, mixture.weight)
