"""A two-layer linear network A = W2 W1 by the Gram matrix of its weights, on which alone its training depends.

Z = [W2; W1^T] is [2d, w], and Q = Z Z^T [2d, 2d] has the blocks W2 W2^T, A, A^T and W1^T W1. With G the gradient of
the cost by A, and H = [[0, G], [G^T, 0]], a step of gradient descent is Z - eta H Z. So Q becomes
(I - eta H) Q (I - eta H), and the gradient flow is dQ/dt = -(H Q + Q H): exact for every width w, at a price that does
not depend on it.

The cost is |A - Y|^2 / 2 for data Y [d, d], so that G = A - Y (Tu, Aranguri and Jacot 2024, section 2).
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def draw_gram(size: int, width: int, threshold: float, generator: np.random.Generator) -> Array:
    """Q [2d, 2d] of weights drawn from N(0, threshold / width).

    A Wishart matrix by its triangular factor, so that the weights themselves are not drawn (Bartlett 1933).

    Args:
        size: d.
        width: w; it may be less than 2d.
        threshold: s = sigma^2 w, sigma^2 the variance of a weight.
    """
    columns = min(2 * size, width)
    factor: Array = np.tril(generator.standard_normal((2 * size, columns)), -1)
    factor[range(columns), range(columns)] = np.sqrt(generator.chisquare(width - np.arange(columns)))
    gram: Array = threshold / width * (factor @ factor.T)
    return gram


def read_product(gram: Array) -> Array:
    """A [d, d]: a view."""
    half = len(gram) // 2
    return gram[:half, half:]


def _couple(gram: Array, data: Array) -> Array:
    """H [2d, 2d]."""
    gradient = read_product(gram) - data
    zero = np.zeros_like(gradient)
    return np.block([[zero, gradient], [gradient.T, zero]])


def descend(gram: Array, data: Array, eta: float) -> Array:
    """Q after a step of gradient descent of size eta."""
    step = np.eye(len(gram)) - eta * _couple(gram, data)
    after: Array = step @ gram @ step
    return (after + after.T) / 2  # rounding would make it less symmetric step by step


def find_flow(gram: Array, data: Array) -> Array:
    """dQ/dt of the gradient flow."""
    half = _couple(gram, data) @ gram
    return -(half + half.T)


def find_rates(gram: Array) -> tuple[Array, Array]:
    """Singular values of A, falling, and how fast the network learns along each of them, both [d].

    With A = sum a_i u_i v_i^T the flow is da_i/dt = -(u_i^T W2 W2^T u_i + v_i^T W1^T W1 v_i) (u_i^T G v_i), but for
    what couples it with other directions. The rate is half of the first factor: a_i in a balanced network.
    """
    half = len(gram) // 2
    left, values, right = np.linalg.svd(read_product(gram))
    outer = ((gram[:half, :half] @ left) * left).sum(0)
    inner = ((gram[half:, half:] @ right.T) * right.T).sum(0)
    return values, (outer + inner) / 2


def find_invariant(gram: Array) -> float:
    """((|w1|^2 + |w2|^2) / 2)^2 - a^2 of a scalar network, d = 1: the gradient flow does not change it.

    Its mean over initial weights is s^2 at every width, as it is |p|^2 |q|^2 with p, q = (w1 +- w2) / sqrt 2.
    """
    assert gram.shape == (2, 2)
    return float((gram[0, 0] + gram[1, 1]) ** 2 / 4 - gram[0, 1] ** 2)
