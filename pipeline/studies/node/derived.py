"""Quantities derived from the fields of a NODE network that decide its numbers. Imports no torch."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.studies.node.study import NodeNetwork


def has_mlp(network: "NodeNetwork") -> bool:
    """Whether the timestep embedding, channel-wise or positional, has an MLP."""
    return "mlp" in network.time or network.position == "mlp"


def ode_width(network: "NodeNetwork") -> int:
    """Channels of the ODE's state, with augmentation (Dupont et al. 2019)."""
    return network.channels + network.augment_channels


def choose_outer_norm(network: "NodeNetwork") -> Literal["group", "batch", "instance", "layer"]:
    """The norm of stem and head."""
    return network.norm if network.norm_scope == "all" else "group"


def choose_stem_groups(network: "NodeNetwork") -> int:
    """Groups of a GroupNorm in stem and head; `make_norm` limits them to the channels."""
    return network.groups if network.groups_scope == "all" else network.outer_groups
