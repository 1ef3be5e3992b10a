"""A small convolutional classifier whose penultimate layer gives features for the Frechet distance."""

from torch import Tensor, nn


class FeatureClassifier(nn.Module):
    """Images [B, C, H, W] in [0, 1] to features [B, features] and logits [B, classes]."""

    def __init__(self, image_channels: int, features: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(image_channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, features),
            nn.ReLU(),
        )
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return features, self.head(features)

    def classify(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, features], logits without the head's bias, and logits, both [B, classes]."""
        features = self.body(x)
        unbiased = features @ self.head.weight.T
        return features, unbiased, unbiased + self.head.bias
