"""Metrics against closed forms."""

import math

import numpy as np
import pytest
import torch

from pipeline.metrics.classification import measure_accuracy, measure_nll
from pipeline.metrics.generative import register_extractor, score_images
from pipeline.report.statistics import summarise, summarise_difference


def test_accuracy_and_nll_by_hand():
    logits = np.array([[2.0, 0.0], [0.0, 0.0], [1000.0, 0.0]])
    labels = np.array([0, 1, 0])
    assert measure_accuracy(logits, labels) == pytest.approx(200 / 3)  # a tie goes to the first class
    expected = (math.log(1 + math.exp(-2)) + math.log(2) + 0) / 3
    assert measure_nll(logits, labels) == pytest.approx(expected)


def first_pixels(images):
    """Features: the first two pixels, on the scale 0 to 255; logits: certain of the third pixel's class."""
    flat = images.flatten(1) * 255
    return flat[:, :2], 200 * torch.nn.functional.one_hot(flat[:, 2].round().long() % 4, 4).float()


def test_fid_of_gaussians_in_closed_form_through_the_registered_path():
    generator = np.random.default_rng(0)

    def draw(mean, std):
        images = np.zeros((40_000, 1, 2, 2), np.uint8)
        images.reshape(-1, 4)[:, :2] = generator.normal(mean, std, (40_000, 2)).round().clip(0, 255)
        return images

    name = register_extractor("first-pixels", first_pixels)
    scores = score_images(draw((100, 120), (10, 20)), draw((110, 120), (15, 20)), name, 1, "cpu", batch_size=4000)
    assert scores.fid == pytest.approx(10**2 + (15 - 10) ** 2, rel=0.03)
    assert scores.inception_score == pytest.approx(1.0)  # one class only


def test_inception_score_of_certain_predictions_is_the_number_of_classes():
    images = np.zeros((400, 1, 2, 2), np.uint8)
    images[:, 0, 1, 0] = np.arange(400) % 4
    images[:, 0, 0] = np.random.default_rng(0).integers(0, 255, (400, 2))
    name = register_extractor("first-pixels", first_pixels)
    scores = score_images(images, images, name, 1, "cpu")
    assert scores.inception_score == pytest.approx(4.0)
    assert scores.fid == pytest.approx(0.0, abs=1e-3)


def test_summaries():
    summary = summarise({0: 1.0, 1: 3.0})
    assert summary is not None
    assert (summary.mean, summary.n) == (2.0, 2)
    assert summary.std == pytest.approx(math.sqrt(2))
    single = summarise({4: 1.5})
    assert single is not None
    assert (single.mean, single.std, single.n) == (1.5, None, 1)
    assert summarise({}) is None


def test_differences_are_paired_by_seed():
    difference = summarise_difference({0: 11.0, 1: 22.0, 2: 5.0}, {1: 20.0, 0: 10.0, 3: 0.0})
    assert difference is not None
    assert (difference.mean, difference.n) == (1.5, 2)
    assert difference.std == pytest.approx(math.sqrt(0.5))  # far less than either side's spread
