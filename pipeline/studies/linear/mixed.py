"""The mixed dynamics, a closed formula for how A = W2 W1 learns in a wide network; and the exact scalar solution.

Source: Tu, Aranguri and Jacot 2024, "Mixed dynamics in linear networks", arXiv 2405.17580.
"""

import numpy as np

from pipeline.studies.linear.gram import Array


def find_roots(product: Array, threshold: float) -> tuple[Array, Array]:
    """sqrt(A A^T + s^2) and sqrt(A^T A + s^2), both [d, d].

    Args:
        product: A [d, d].
        threshold: s.
    """
    left, values, right = np.linalg.svd(product)
    root = np.sqrt(values**2 + threshold**2)
    return (left * root) @ left.T, (right.T * root) @ right


def find_mixed_flow(product: Array, data: Array, threshold: float) -> Array:
    """dA/dt = -(sqrt(A A^T + s^2) G + G sqrt(A^T A + s^2)), G = A - Y.

    The network is lazy where singular values are below s, with rate 2 s; above, it is balanced, with twice the value.
    """
    outer, inner = find_roots(product, threshold)
    gradient = product - data
    flow: Array = -(outer @ gradient + gradient @ inner)
    return flow


def solve_scalar(start: float, target: float, invariant: float, times: Array) -> Array:
    """a at times [N] of the scalar network: da/dt = 2 (target - a) sqrt(a^2 + invariant), a(0) = start.

    With a = c sinh y, c^2 the invariant, u = e^y has du/dt = -c (u - high) (u - low), where high and low are
    (target +- sqrt(target^2 + c^2)) / c.
    """
    c, root = np.sqrt(invariant), np.sqrt(target**2 + invariant)
    high, low = (target + root) / c, (target - root) / c
    u = (start + np.sqrt(start**2 + invariant)) / c
    decay = (high - u) / (u - low) * np.exp(-2 * root * times)
    u = (high + low * decay) / (1 + decay)
    a: Array = c * (u - 1 / u) / 2
    return a
