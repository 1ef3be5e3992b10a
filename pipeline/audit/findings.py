"""What an audit finds, as records: sites, embedding, and what was audited."""

from typing import Literal

from pydantic import Field

from pipeline.schema.base import Strict


class NormFacts(Strict):
    """The norm behind a site."""

    kind: Literal["group", "layer", "batch", "instance", "rms", "arithmetic"] = Field(
        description="arithmetic: a norm with mean and deviation that is written as arithmetic"
    )
    path: str = Field(description="the module that runs it")
    groups: int | None = Field(description="of a group normalisation")
    batch_statistics: bool = Field(description="a batch normalisation that takes the batch's own statistics")


class SiteFacts(Strict):
    """A place where time enters, its data operand held fixed."""

    name: str = Field(description="the module that holds it")
    kind: Literal["added", "scale-shift", "gate", "concatenated", "other"]
    shape: list[int] = Field(description="of the tensor that the time meets")
    told: list[int] = Field(description="of the tensor of the time")
    zero: bool = Field(description="whether the tensor of the time is 0 at all times")
    norm: NormFacts | None = Field(description="null: linear operations lead to none")
    passes: bool = Field(description="whether what the site gives is used beside the norm, too")
    channel_axis: int
    change_before: float | None = Field(
        description="||z(t) - z(t_0)|| / ||z(t_0)||, mean over times; z enters the norm, or leaves the site"
    )
    change_behind: float | None = Field(description="the same behind the norm")
    offset_part: float | None = Field(
        description="part of the energy of z(t) - z(t_0) that is one offset per channel and image; mean over times"
    )
    survival: float | None = Field(
        description="the norm's change over what it would be with its statistics held at t_0; mean over times"
    )
    survival_by_channel: float | None = Field(description="the same, with G = C in the norm's place")
    changes: list[float | None] = Field(description="the change behind the norm at each time after the first")
    share: float | None = Field(
        description="variance over times at fixed image, channel and pixel, over the total variance, behind the norm"
    )


class Form(Strict):
    """Another type in which the time could be given."""

    name: str
    distinct: int | None = Field(description="how many of the times the network tells apart; null: not counted")
    times: int = Field(description="how many there are")
    note: str


class EmbeddingFacts(Strict):
    """How well the network resolves the times."""

    times: int = Field(description="how many different ones were tried")
    sinusoid: bool = Field(description="whether the first embedding is made of sines and cosines")
    width: int = Field(description="features of the first embedding; 1: the time itself")
    rank: float | None = Field(
        description="effective rank: (sum of eigenvalues)^2 / sum of squares, of the covariance over the times "
        "(participation ratio; Gao et al. 2017)"
    )
    least_change: float | None = Field(description="||e(t') - e(t)|| / ||e(t)||, least over neighbouring times")
    distinct: int = Field(description="how many of the times have embeddings of their own")
    site_rank: float | None = Field(description="effective rank of what reaches the sites, all together")
    site_distinct: int
    saturated: float | None = Field(
        description="share of outputs of tanh and sigmoid beyond 0.999; null: there is none"
    )
    forms: list[Form]


class OutputFacts(Strict):
    """The network's output at the time of the data operands, and at the last time (of these two, the first instead)."""

    zero: bool = Field(description="exactly 0 at both")
    constant: bool = Field(description="the same at both, bit by bit")
    change: float | None = Field(description="||f(t') - f(t)|| / ||f(t)||; null: f(t) is 0")


class Interval(Strict):
    """A mean over batches and its 95 % interval."""

    mean: float
    low: float | None
    high: float | None


class LevelLoss(Strict):
    """Mean losses of images of one true time."""

    t: float
    right: float
    shuffled: float
    fixed: float


class Behaviour(Strict):
    """What a trained network makes of the time that it is told, and of the time that it can infer."""

    loss: str = Field(description="ddpm, flow, edm, or the name of the user's function")
    batches: int
    images: int
    fixed_at: float = Field(description="the mean of the true times, or the whole number next to it")
    right: Interval = Field(description="the loss, told the right time")
    shuffled: Interval = Field(
        description="how much higher it is with the times of the batch shuffled, over the right loss"
    )
    fixed: Interval = Field(description="the same with the mean time for all")
    levels: list[LevelLoss]
    linear: Interval | None = Field(
        description="R^2 of a linear probe for the time, from pooled features at the mean time; null: no module has any"
    )
    mlp: Interval | None = Field(description="the same of a small MLP")


class Audit(Strict):
    """An audit of a network."""

    network: str = Field(description="its class")
    time: str = Field(description="which input is the time")
    data: list[str] = Field(description="which inputs are the data; other inputs are taken for constants")
    times: list[float] = Field(min_length=2)
    at: float = Field(description="the time from which the data operands are")
    mode: Literal["evaluation", "training"]
    dtype: str = Field(description="in which the network ran; sites are measured in float64")
    sites: list[SiteFacts]
    embedding: EmbeddingFacts | None = Field(description="null: the network makes nothing of the time")
    output: OutputFacts
    behaviour: Behaviour | None = Field(None, description="of a trained network; null: no loss and data were given")
    notes: list[str] = Field(description="what to know before a number is believed")

    @property
    def normed(self) -> list[SiteFacts]:
        """The sites whose survival is known."""
        return [site for site in self.sites if site.survival is not None]

    @property
    def least_survival(self) -> float | None:
        """Of all sites that a norm follows."""
        return min((site.survival for site in self.normed if site.survival is not None), default=None)
