"""Quantities derived from the fields of a U-Net. Imports no torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.studies.ddpm.study import DdpmNetwork


def loses_level(network: "DdpmNetwork") -> bool:
    """Whether no trace of the level is left behind the norms after the sites, whatever the weights (Equation 5).

    See `loses_time` of ODE functions. Batch norm in mind is that of a batch which shares its level, as in sampling; in
    training each image has its own.
    """
    if network.position != "none" and not network.position_mean:
        return False
    if network.time == "none":
        return True
    widths = {network.channels * multiplier for multiplier in network.channel_multipliers}
    return network.norm in ("batch", "instance") or (network.norm == "group" and widths == {network.groups})
