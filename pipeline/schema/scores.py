"""Scores of generated images, and how they are computed."""

from pydantic import Field

from pipeline.schema.base import Strict


class Evaluation(Strict):
    """FID, KID and IS of the sampled images against the training split."""

    isc_splits: int = Field(ge=2, description="splits of the Inception Score that is given beside that of all at once")
    kid_subsets: int = Field(ge=1, description="random subsets over which the KID is averaged")
    kid_subset_size: int = Field(ge=2, description="images of such a subset")
    batch_size: int = Field(ge=1, description="images at a time in the feature extractor")


class Scores(Strict):
    """One sample set against the training split; IS: Inception Score from the extractor's logits."""

    fid: float = Field(description="Frechet distance of the features")
    kid: float = Field(description="kernel distance of the features, mean over subsets")
    inception_score: float = Field(description="all images at once, logits without their bias")
    inception_score_split: float = Field(description="mean over splits, logits without their bias")
    inception_score_split_std: float = Field(ge=0, description="over those splits")
    inception_score_biased: float = Field(description="all images at once, logits as they are")
    inception_score_biased_split: float = Field(description="mean over splits, logits as they are")
    inception_score_biased_split_std: float = Field(ge=0, description="over those splits")
