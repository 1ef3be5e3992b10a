"""Scores of generated images, and settings of their evaluation."""

from pydantic import Field

from pipeline.schema.base import Strict


class Evaluation(Strict):
    """Settings of FID, KID and Inception Score (IS) of sampled images against the training split."""

    isc_splits: int = Field(ge=2, description="splits for the mean IS, which is given beside the IS of all images")
    kid_subsets: int = Field(ge=1, description="number of random subsets over which the KID is averaged")
    kid_subset_size: int = Field(ge=2, description="images of a subset")
    batch_size: int = Field(ge=1, description="images at a time in the feature extractor")


class Scores(Strict):
    """Scores of one sample set against the training split. The Inception Score uses the extractor's logits."""

    fid: float = Field(description="Frechet distance of the features")
    kid: float = Field(description="kernel distance of the features, mean over subsets")
    inception_score: float = Field(description="all images at once, logits without bias")
    inception_score_split: float = Field(description="mean over splits, logits without bias")
    inception_score_split_std: float = Field(ge=0, description="standard deviation over those splits")
    inception_score_biased: float = Field(description="all images at once, logits with bias")
    inception_score_biased_split: float = Field(description="mean over splits, logits with bias")
    inception_score_biased_split_std: float = Field(ge=0, description="standard deviation over those splits")
