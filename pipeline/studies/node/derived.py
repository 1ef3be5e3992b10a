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


def loses_time(network: "NodeNetwork") -> bool:
    """Whether no trace of t is left behind the norms, whatever the weights (the paper's Equation 5).

    An offset with one value per channel cancels where each channel is normalised by itself; one with a single value for
    all channels and pixels cancels in every norm. A zero-padded channel of t is no such offset: its kernel has fewer
    taps at the border. Batch norm in mind is that of a batch which shares t.
    """
    if network.position != "none" and not network.position_mean:
        return False
    if network.time == "none":
        return True
    by_channel = {
        "group": min(network.groups, ode_width(network)) == ode_width(network),
        "batch": network.batch_statistics == "batch",
        "instance": True,
        "layer": False,
    }
    return by_channel[network.norm] and (not network.time.startswith("concat") or network.padding == "circular")
