"""Probes: how well the time can be read from a network's features when the network is told nothing of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Array = NDArray[np.float64]
_LAYERS = 16
"""Most modules whose outputs are features, evenly spaced from input to output."""
_COMPONENTS, _HIDDEN = 32, 32
"""Of the MLP's input and its hidden layer."""
_FOLDS = 5
_TINY = 1e-6


def _pool(output: Tensor) -> Tensor:
    """Mean and log root mean square of each channel over the pixels, [B, 2 C]."""
    flat = output.detach().double().flatten(2) if output.ndim > 2 else output.detach().double()[..., None]
    return torch.cat([flat.mean(2), (flat.square().mean(2).sqrt() + _TINY).log()], 1)


class Features:
    """Pooled outputs of the leaf modules of a network, gathered while it runs."""

    def __init__(self) -> None:
        self.found: dict[str, list[Tensor]] = {}

    def _keep(self, name: str, value: Any) -> None:
        for leaf in tree_leaves(value):
            if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.ndim > 1:
                self.found.setdefault(name, []).append(_pool(leaf))
                return

    def hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        """Keeps a module's output."""
        return lambda _module, _inputs, output: self._keep(name, output)

    def stack(self, images: int) -> Array:
        """[images, features] of the modules that gave a row for each image, evenly chosen."""
        rows = [torch.cat(parts) for parts in self.found.values()]
        rows = [row for row in rows if len(row) == images]
        step = max(1, -(-len(rows) // _LAYERS))
        return torch.cat(rows[::step], 1).cpu().numpy() if rows else np.zeros((images, 0))


@contextmanager
def watch(network: nn.Module) -> Iterator[Features]:
    """Within, the features of what the network computes are gathered."""
    features = Features()
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(features.hook(name)) for name, module in leaves]
    try:
        yield features
    finally:
        for handle in handles:
            handle.remove()


def _make_probes(samples: int, features: int) -> dict[str, Any]:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeCV
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mlp = MLPRegressor(hidden_layer_sizes=(_HIDDEN,), solver="lbfgs", alpha=1.0, max_iter=200, random_state=0)
    return {
        "linear": make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13))),
        "mlp": make_pipeline(StandardScaler(), PCA(min(_COMPONENTS, features, samples // 4), random_state=0), mlp),
    }


def score_probes(features: Sequence[Array], times: Sequence[Array]) -> dict[str, list[float]]:
    """R^2 of a linear and an MLP probe on each batch, fitted to batches of the other folds; none without features.

    Args:
        features: a batch each, [B, features].
        times: [B] each.
    """
    from sklearn.metrics import r2_score

    count = len(features)
    folds = [list(range(start, count, min(_FOLDS, count))) for start in range(min(_FOLDS, count))]
    scores: dict[str, list[float]] = {"linear": [], "mlp": []}
    for fold in folds:
        rest = [place for place in range(count) if place not in fold]
        x, y = np.concatenate([features[place] for place in rest]), np.concatenate([times[place] for place in rest])
        x, kept = x[:, x.std(0) > 0], x.std(0) > 0
        if not x.shape[1]:
            continue
        for name, probe in _make_probes(*x.shape).items():
            _fit_quietly(probe, x, y)
            scores[name] += [float(r2_score(times[place], probe.predict(features[place][:, kept]))) for place in fold]
    return scores


def _fit_quietly(probe: Any, x: Array, y: Array) -> None:
    """Without the warning that the MLP stops before it has converged: it is meant to be small."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probe.fit(x, y)
