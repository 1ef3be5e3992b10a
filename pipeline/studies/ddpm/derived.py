"""Quantities derived from the fields of a U-Net. Imports no torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.studies.ddpm.study import DdpmNetwork


def loses_level(network: "DdpmNetwork") -> bool:
    """Whether no trace of the level is left behind the norms after the sites, whatever the weights (Equation 5).

    See `loses_time` of ODE functions. Batch norm is not among them: in a batch of training, each image has a level of
    its own, which the statistics of the batch do not take away.
    """
    if network.position != "none" and not network.position_mean:
        return False
    if network.time == "none":
        return True
    widths = {network.channels * multiplier for multiplier in network.channel_multipliers}
    return network.norm == "instance" or (network.norm == "group" and widths == {network.groups})
