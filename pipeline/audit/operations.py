"""What ATen's operations are: linear, a sum, a product, a reduction, a norm."""

from collections.abc import Collection
from typing import Any, Literal

import torch

from pipeline.audit.tape import Operation, Ref, list_written

Kind = Literal["added", "scale-shift", "gate", "concatenated", "other"]

SUMS = {"add", "sub", "rsub"}
PRODUCTS = {"mul", "div"}
BIASES = {"addmm": 0, "addmv": 0, "baddbmm": 0, "addbmm": 0, "convolution": 2, "_convolution": 2, "linear": 2}
"""Operations that add one of their arguments to a product, and its place."""
JOINTS = {"cat", "stack", "write", "slice_scatter", "select_scatter"}
NORMS = {
    "native_group_norm": "group", "native_layer_norm": "layer", "_fused_rms_norm": "rms", "native_batch_norm": "batch",
    "_native_batch_norm_legit": "batch", "_native_batch_norm_legit_no_training": "batch", "cudnn_batch_norm": "batch",
    "_batch_norm_with_update": "batch", "_batch_norm_no_update": "batch", "miopen_batch_norm": "batch",
}  # fmt: skip
"""Those that normalise their first argument."""
REDUCTIONS = {
    "mean", "sum", "var", "std", "var_mean", "std_mean", "linalg_vector_norm", "norm", "amax", "frobenius_norm",
}  # fmt: skip
PLAIN = {"clone", "_to_copy", "lift_fresh", "contiguous", "alias", "detach", "copy"}
"""They change no number, but for rounding."""
_SHAPES = {
    "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_linear1d",
    "upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_trilinear3d", "upsample_bicubic2d", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "native_channel_shuffle", "roll", "flip", "repeat", "index_select", "im2col", "col2im",
    "tril", "triu", "_reshape_copy", "_unsafe_view", "_reshape_alias",
}  # fmt: skip
_PRODUCTS_OF_TWO = {"mm", "bmm", "mv", "dot", "convolution", *BIASES}
_ARITHMETIC = {
    "add", "sub", "rsub", "mul", "div", "pow", "square", "sqrt", "rsqrt", "reciprocal", "neg", "abs", "clamp",
    "clamp_min", "clamp_max", "maximum", "addcmul", "addcdiv",
}  # fmt: skip


def is_view(operation: Operation) -> bool:
    """Whether its output shares the memory of its input, unchanged."""
    func: Any = operation.func
    if not isinstance(func, torch._ops.OpOverload) or any(list_written(func)):
        return False
    return any(argument.alias_info is not None for argument in func._schema.arguments)


def is_plain(operation: Operation) -> bool:
    """Whether it only moves or casts numbers."""
    return is_view(operation) or operation.name in PLAIN | {"_unsafe_view", "_reshape_copy"}


def is_arithmetic(operation: Operation) -> bool:
    """Whether a norm written by hand may have it."""
    return is_plain(operation) or operation.name in _ARITHMETIC or operation.name in REDUCTIONS


def find_places(operation: Operation, ids: Collection[int]) -> list[int]:
    """Which arguments are one of these values."""
    return [place for place, given in enumerate(operation.args) if isinstance(given, Ref) and given.id in ids]


def is_linear(operation: Operation, moving: Collection[int], held: Collection[int]) -> bool:
    """Whether an operation is linear, up to a constant, in the values that move.

    Args:
        moving: ids of those.
        held: ids of what does not depend on the data and may multiply them.
    """
    name, places = operation.name, find_places(operation, moving)
    others = [id for id in operation.inputs if id not in moving]
    if is_plain(operation) or name in _SHAPES | SUMS | JOINTS or name in ("neg", "mean", "sum"):
        return True
    if name == "mul" or name in _PRODUCTS_OF_TWO:
        return places == [BIASES.get(name)] or (len(places) == 1 and all(id in held for id in others))
    if places == [0] and name in ("addcmul", "addcdiv"):
        return True
    factors = {"addcmul": ([1], [2]), "addcdiv": ([1],), "div": ([0],)}.get(name, ())
    return places in factors and all(id in held for id in others)


def classify(operation: Operation, times: Collection[int]) -> Kind:
    """How an operation joins the values `times` with others."""
    name, places = operation.name, find_places(operation, times)
    if name in JOINTS:
        return "concatenated"
    if name in SUMS or (places and places == [BIASES.get(name)]):
        return "added"
    if name in PRODUCTS:
        return "gate"
    if name in ("addcmul", "addcdiv") and places:
        return "added" if places == [0] else "scale-shift" if 0 in places else "gate"
    return "other"
