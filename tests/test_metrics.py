"""Metrics against closed forms, and against torch-fidelity's own way to them."""

import hashlib
import json
import math
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from problems import later, resolve
from safetensors.torch import load_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.utils import create_feature_extractor
from trainings import COMPUTE, ddpm_run, train_ddpm_run
from workspace import ROOT, Workspace, copy_settings, find_settings

from benchmarks.fid import write_random_weights
from pipeline.compute.device import choose_device
from pipeline.data.arrays import Split, write_arrays, write_split
from pipeline.data.fetch import read_cifar
from pipeline.data.weights import find_weights
from pipeline.metrics.classification import measure_accuracy, measure_nll
from pipeline.metrics.classifier import FeatureClassifier
from pipeline.metrics.features import Extractor, load_extractor, read_reference, write_reference
from pipeline.metrics.generative import (
    Features,
    measure_fid,
    measure_inception_score,
    measure_scores,
    measure_statistics,
    open_extractor,
    register_classifier,
    register_inception,
)
from pipeline.report.statistics import summarise, summarise_difference
from pipeline.run.outputs import write_weights
from pipeline.schema.base import SpecError
from pipeline.schema.compute import load_compute
from pipeline.schema.data import INCEPTION_FEATURES, InceptionExtractor, find_dataset, load_data_spec
from pipeline.schema.document import read_document
from pipeline.schema.record import Failure, evaluation_path
from pipeline.schema.reference import ReferenceFile
from pipeline.schema.resolved import describe_run
from pipeline.schema.scores import Evaluation, Scores
from pipeline.studies.ddpm.record import Evaluated, check_steps, make_ddpm_record
from pipeline.studies.ddpm.samples import name_sampled_snapshot, name_set, read_samples, read_set
from pipeline.studies.ddpm.study import DdpmRecord, DdpmRun, LevelAwareness, NoiseLosses, SampleSets
from pipeline.studies.node.predict import Predictions
from pipeline.studies.node.record import Evaluated as EvaluatedNode
from pipeline.studies.node.record import make_node_record
from pipeline.studies.node.study import TimeAwareness
from stages.extractor import copy_inception

EVALUATION = Evaluation(isc_splits=5, kid_subsets=7, kid_subset_size=50, batch_size=64)


def test_accuracy_and_nll_by_hand():
    logits = np.array([[2.0, 0.0], [0.0, 0.0], [1000.0, 0.0]])
    labels = np.array([0, 1, 0])
    assert measure_accuracy(logits, labels) == pytest.approx(200 / 3)  # a tie goes to the first class
    expected = (math.log(1 + math.exp(-2)) + math.log(2) + 0) / 3
    assert measure_nll(logits, labels) == pytest.approx(expected)


# ---- Scores from features --------------------------------------------------------------------------------------------


def first_pixels(images):
    """Features: the first two pixels, on the scale 0 to 255; logits: certain of the third pixel's class."""
    flat = images.flatten(1) * 255
    logits = 200 * torch.nn.functional.one_hot(flat[:, 2].round().long() % 4, 4).float()
    return flat[:, :2], logits, logits


def test_fid_of_gaussians_in_closed_form_through_the_registered_path():
    generator = np.random.default_rng(0)

    def draw(mean, std):
        images = np.zeros((40_000, 1, 2, 2), np.uint8)
        images.reshape(-1, 4)[:, :2] = generator.normal(mean, std, (40_000, 2)).round().clip(0, 255)
        return images

    extract = open_extractor(register_classifier("first-pixels", first_pixels), "cpu", 4000)
    assert extract(np.full((1, 1, 2, 2), 255, np.uint8)).features.tolist() == [[255, 255]]
    reference = measure_statistics(extract(draw((110, 120), (15, 20))).features)
    scores = measure_scores(extract(draw((100, 120), (10, 20))), reference, EVALUATION)
    assert scores.fid == pytest.approx(10**2 + (15 - 10) ** 2, rel=0.03)
    assert scores.inception_score == pytest.approx(1.0)  # one class only


def test_inception_score_of_certain_predictions_is_the_number_of_classes():
    logits = 200 * torch.nn.functional.one_hot(torch.arange(400) % 4, 4).float()
    assert measure_inception_score(logits, 1) == (pytest.approx(4.0), 0)
    mean, std = measure_inception_score(logits, 10)
    assert 3.5 < mean < 4.0  # in 40 images the classes are not quite as frequent
    assert std > 0


@pytest.mark.parametrize("splits", [1, 3, 10])
def test_inception_score_is_torch_fidelitys(splits: int):
    logits = torch.from_numpy(np.random.default_rng(0).standard_normal((101, 10)).astype(np.float32)) * 3
    found = isc_features_to_metric(logits, splits)
    expected = (found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD])
    assert measure_inception_score(logits, splits) == pytest.approx(expected, rel=1e-12)


def test_inception_score_with_a_bias_by_hand():
    """Two images with logits ±a, and a bias b of the first class: p = sigmoid(b ± a)."""
    a, b = 2.0, 1.5
    unbiased = torch.tensor([[a, 0.0], [0.0, a]])

    def expect(bias):
        p = [1 / (1 + math.exp(-bias - sign * a)) for sign in (1, -1)]
        q = sum(p) / 2
        kl = sum(each * math.log(each / q) + (1 - each) * math.log((1 - each) / (1 - q)) for each in p) / 2
        return math.exp(kl)

    features = torch.arange(200.0).view(100, 2) ** 1.5
    found = Features(features, unbiased.repeat(50, 1), (unbiased + torch.tensor([b, 0.0])).repeat(50, 1))
    scores = measure_scores(found, measure_statistics(features), EVALUATION)
    assert scores.inception_score == pytest.approx(expect(0), rel=1e-9)
    assert scores.inception_score_biased == pytest.approx(expect(b), rel=1e-9)
    assert abs(expect(0) - expect(b)) > 0.1
    assert scores.inception_score_split == measure_inception_score(found.logits_unbiased, 5)[0]
    assert scores.inception_score_biased_split == measure_inception_score(found.logits, 5)[0]


def test_the_classifier_judges_with_and_without_its_bias():
    torch.manual_seed(0)
    network = FeatureClassifier(1, 6, 4)
    images = torch.rand(5, 1, 8, 8)
    features, unbiased, logits = network.classify(images)
    assert torch.allclose(logits - unbiased, network.head.bias.expand(5, 4), atol=1e-6)
    plain = network(images)
    assert torch.equal(features, plain[0])
    assert torch.allclose(logits, plain[1], atol=1e-6)


def constant(value, images=100):
    features = torch.full((images, 2), float(value))
    return Features(features, torch.zeros(images, 3), torch.zeros(images, 3))


def test_kid_and_fid_of_constant_features_by_hand():
    """Kernel (x·y / 2 + 1)^3 of (1, 1) and (2, 2): 8 and 125 within, 27 between."""
    scores = measure_scores(constant(1), measure_statistics(constant(2).features), EVALUATION)
    assert scores.kid == pytest.approx(8 + 125 - 2 * 27)
    assert scores.fid == pytest.approx(2.0)


def test_kid_is_unbiased():
    """Of two draws from one distribution it is zero on average; the biased estimate never is."""
    generator = torch.Generator().manual_seed(0)
    kids = []
    for _ in range(40):
        a, b = torch.randn(2, 60, 3, generator=generator)
        found = Features(a, torch.zeros(60, 3), torch.zeros(60, 3))
        kids.append(measure_scores(found, measure_statistics(b), EVALUATION).kid)
    mean, error = np.mean(kids), np.std(kids) / math.sqrt(len(kids))
    assert abs(mean) < 3 * error
    assert min(kids) < 0


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_images_for_the_covariance_are_refused(images: int):
    reference = measure_statistics(constant(1).features)
    with pytest.raises(ValueError, match=f"sample set: {images} images .* covariance of 2 features: at least 3"):
        measure_scores(constant(1, images), reference, EVALUATION)


def test_a_subset_is_no_larger_than_either_side():
    for samples, reference in ((49, 100), (100, 49)):
        with pytest.raises(ValueError, match="kid_subset_size = 50: one of the sides has 49 images only"):
            measure_scores(constant(1, samples), measure_statistics(constant(1, reference).features), EVALUATION)


def test_the_mean_is_taken_in_float64():
    features = torch.full((100_000, 1), 0.1)
    assert measure_statistics(features).mean[0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    assert measure_statistics(features).mean.dtype == measure_statistics(features).covariance.dtype == np.float64


# ---- torch-fidelity's own way ----------------------------------------------------------------------------------------


class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = torch.from_numpy(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def draw_images(seed, count=230, shape=(1, 4, 4), high=256):
    return np.random.default_rng(seed).integers(0, high, (count, *shape), dtype=np.uint8)


def make_linear_classify():
    """Random linear features and a head with a bias."""
    generator = torch.Generator().manual_seed(0)
    body, head = torch.randn(16, 6, generator=generator), torch.randn(6, 5, generator=generator)
    bias = torch.randn(5, generator=generator)

    def classify(images):
        classify.calls += 1
        features = images.flatten(1) @ body
        return features, features @ head, features @ head + bias

    classify.calls = 0
    return classify


def test_scores_equal_those_of_calculate_metrics():
    name = register_classifier("linear", make_linear_classify())
    samples, reference = draw_images(0), draw_images(1, high=200)
    extract = open_extractor(name, "cpu", 64)
    scores = measure_scores(extract(samples), measure_statistics(extract(reference).features), EVALUATION)

    def calculate(layer, splits):
        return torch_fidelity.calculate_metrics(
            input1=Images(samples), input2=Images(reference), fid=True, kid=True, isc=True, feature_extractor=name,
            feature_layer_isc=layer, isc_splits=splits, kid_subsets=7, kid_subset_size=50, batch_size=100,
            cuda=False, cache=False, save_cpu_ram=True, verbose=False,
        )  # fmt: skip

    whole, split = calculate(None, 1), calculate(None, 5)
    biased, biased_split = calculate("logits", 1), calculate("logits", 5)
    assert scores.model_dump() == pytest.approx(
        {
            "fid": whole["frechet_inception_distance"],
            "kid": whole["kernel_inception_distance_mean"],
            "inception_score": whole["inception_score_mean"],
            "inception_score_split": split["inception_score_mean"],
            "inception_score_split_std": split["inception_score_std"],
            "inception_score_biased": biased["inception_score_mean"],
            "inception_score_biased_split": biased_split["inception_score_mean"],
            "inception_score_biased_split_std": biased_split["inception_score_std"],
        },
        rel=1e-5,
    )
    assert len({round(value, 6) for value in scores.model_dump().values()}) == 8


def test_one_pass_gives_all():
    classify = make_linear_classify()
    name = register_classifier("linear-counted", classify)
    images = draw_images(0)
    found = open_extractor(name, "cpu", 64)(images)
    assert classify.calls == math.ceil(len(images) / 64)
    again = open_extractor(name, "cpu", 230)(images)
    for layer in ("features", "logits_unbiased", "logits"):
        assert torch.allclose(getattr(found, layer), getattr(again, layer), rtol=1e-5, atol=1e-5)
    assert len(found.features) == len(images)


# ---- Inception -------------------------------------------------------------------------------------------------------

NOWHERE = ["https://localhost/weights.pth"]


def describe_weights(path: Path) -> InceptionExtractor:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return InceptionExtractor(kind="inception", file="w.pth", size=len(content), sha256=digest, path=str(path))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights in the true format, and the specification of it."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    write_random_weights(path)
    return describe_weights(path)


@pytest.mark.ci
def test_inception_gives_what_torch_fidelity_gives(weights, tmp_path: Path):
    copied = copy_inception(weights, NOWHERE, tmp_path)
    assert (tmp_path / "weights.pth").read_bytes() == Path(weights.path).read_bytes()
    (tmp_path / "extractor.json").write_text(copied.model_dump_json())
    extractor = load_extractor(tmp_path, "cpu", 2)
    assert (extractor.sha256, extractor.features) == (weights.sha256, INCEPTION_FEATURES)
    assert weights.sha256[:12] in extractor.name
    images = draw_images(0, 3, (3, 32, 32))

    layers = ["2048", "logits_unbiased", "logits"]
    theirs = FeatureExtractorInceptionV3("theirs", layers, feature_extractor_weights_path=weights.path)
    expected = theirs(torch.from_numpy(images))
    ours = create_feature_extractor(extractor.name, layers, cuda=False, verbose=False)
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name
    found = extractor.extract(images)
    for value, layer in zip(expected, (found.features, found.logits_unbiased, found.logits), strict=True):
        assert torch.allclose(layer, value, rtol=1e-4, atol=1e-5 * value.abs().max().item())
    assert torch.allclose(found.logits - found.logits_unbiased, theirs.fc.bias.expand(3, -1), atol=1e-4)
    assert theirs.fc.bias.abs().max() > 0.01


def test_weights_with_another_digest_are_refused(weights, tmp_path: Path):
    wrong = weights.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ValueError, match=f"extractor.path = .*sha256 is {weights.sha256}, expected 0000"):
        find_weights(wrong, NOWHERE, tmp_path)
    file = copy_inception(weights, NOWHERE, tmp_path)
    with (tmp_path / "weights.pth").open("ab") as changed:
        changed.write(b"x")
    (tmp_path / "extractor.json").write_text(file.model_dump_json())
    with pytest.raises(ValueError, match=r"weights\.pth: its sha256 is .*, extractor\.json says"):
        load_extractor(tmp_path, "cpu", 2)


def test_weights_are_found_or_said_to_be_missing(tmp_path: Path):
    mine, far = tmp_path / "mine.pth", tmp_path / "far"
    mine.write_bytes(b"weights")
    named = describe_weights(mine).model_copy(update={"path": "mine.pth"})
    spec = named.model_copy(update={"path": None})
    mirrors = [far.as_uri()]
    with pytest.raises(ValueError, match=r"put the file at .*downloads/w\.pth by hand.*name a copy there") as error:
        find_weights(spec, mirrors, tmp_path)
    assert "\n" not in str(error.value)
    assert find_weights(named, mirrors, tmp_path) == mine
    far.mkdir()
    mine.rename(far / "w.pth")
    with pytest.raises(ValueError, match=r"extractor\.path = 'mine\.pth': no such file"):
        find_weights(named, mirrors, tmp_path)
    assert find_weights(spec, mirrors, tmp_path).read_bytes() == b"weights"
    shutil.rmtree(far)
    assert find_weights(spec, mirrors, tmp_path) == tmp_path / "downloads" / "w.pth"  # kept: nothing is fetched


class Harmful:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_pickle_with_code_is_refused_and_its_code_not_run(tmp_path: Path):
    marker = tmp_path / "marker"
    torch.save({"weight": torch.zeros(1), "harm": Harmful(marker)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="no code in it was run") as error:
        register_inception(tmp_path / "w.pth", "1" * 64)
    assert "\n" not in str(error.value)
    assert not marker.exists()
    # That the file asks for code at all, read without running any, and that the code would have left its mark.
    assert "builtins.getattr" in torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "w.pth")
    touch, arguments = Harmful(marker).__reduce__()
    touch(*arguments)
    assert marker.exists()


@pytest.mark.parametrize("state", [{"weight": torch.zeros(1)}, {"a": 1}, [torch.zeros(1)], None])
def test_what_is_not_inceptions_weights_is_refused(state, tmp_path: Path):
    path = tmp_path / "w.pth"
    if state is None:
        path.write_bytes(b"PK\x03\x04 cut off")
    else:
        torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"w\.pth: not .*weights") as error:
        open_extractor(register_inception(path, digest), "cpu", 2)
    assert "\n" not in str(error.value)


# ---- Reference -------------------------------------------------------------------------------------------------------


def make_extractor(name="linear", sha256="a" * 64) -> Extractor:
    register_classifier(name, make_linear_classify())
    return Extractor(name, sha256, 6, open_extractor(name, "cpu", 64))


def make_split(images) -> Split:
    return Split(images, np.zeros(len(images), np.int64), 2)


def test_the_reference_is_read_as_it_was_made(tmp_path: Path):
    extractor, images = make_extractor(), draw_images(0)
    write_reference(tmp_path, make_split(images), 230, extractor)
    about, statistics = read_reference(tmp_path, extractor)
    features = extractor.extract(images).features
    assert torch.equal(statistics.features, features)
    assert np.allclose(statistics.covariance, np.cov(features.numpy().astype(np.float64), rowvar=False), rtol=1e-12)
    assert np.allclose(statistics.mean, features.double().mean(0).numpy(), rtol=1e-12)
    assert measure_fid(measure_statistics(features), statistics) == pytest.approx(0, abs=1e-4)
    assert about.images_sha256 == hashlib.sha256(images.tobytes()).hexdigest()
    assert (about.images, about.shape, about.split) == (230, [1, 4, 4], "train")


def test_a_reference_of_another_number_of_images_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"training split has 230 images, .*train_images = 231"):
        write_reference(tmp_path, make_split(draw_images(0)), 231, make_extractor())
    with pytest.raises(ValueError, match=r"training split: 6 images .* at least 7"):
        write_reference(tmp_path, make_split(draw_images(0, 6)), 6, make_extractor())
    assert not list(tmp_path.iterdir())


def test_a_reference_of_another_extractor_or_a_damaged_one_is_refused(tmp_path: Path):
    write_reference(tmp_path, make_split(draw_images(0)), 230, make_extractor())
    with pytest.raises(ValueError, match=f"made with linear .sha256 {'a' * 64}.* scored by linear .{'b' * 64}"):
        read_reference(tmp_path, make_extractor(sha256="b" * 64))
    path = tmp_path / "reference.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        read_reference(tmp_path, make_extractor())
    write_arrays(path, {"features": np.zeros((3, 6), np.float32)})
    with pytest.raises(ValueError, match="not the arrays of 230 images in 6 features"):
        read_reference(tmp_path, make_extractor())
    path.unlink()
    with pytest.raises(ValueError, match="the file is missing"):
        read_reference(tmp_path, make_extractor())


# ---- The record of a diffusion model ---------------------------------------------------------------------------------


def make_scores(fid, others=1.0) -> Scores:
    return Scores(
        fid=fid, kid=others, inception_score=2 * others, inception_score_split=3 * others,
        inception_score_split_std=0.0, inception_score_biased=4 * others, inception_score_biased_split=5 * others,
        inception_score_biased_split_std=0.0,
    )  # fmt: skip


def make_awareness(share=0.25) -> LevelAwareness:
    return LevelAwareness(levels=[0, 999], block_change=[[0.0, 1.0], [0.0, 3.0]], block_share=[0.25, share])


LOSSES = NoiseLosses(levels=[0, 999], right=[0.1, 0.2], shuffled=[0.5, 0.5], mean_level=[0.2, 0.4])


def make_run(**network) -> DdpmRun:
    run = resolve("ddpm")
    training = run.training.model_copy(update={"steps": 500})
    return run.model_copy(update={"network": run.network.model_copy(update=network), "training": training})


def make_samples(sets=3, snapshots=(100, 250), steps=500, images=60) -> SampleSets:
    sampling = later("digits", "sampling")
    sampling = sampling.model_copy(update={"sets": sets, "images": images, "steps": 50})
    return SampleSets(steps=steps, snapshots=list(snapshots), sampling=sampling, trace="golden")


def make_record(sets, earlier, samples, initial=None, trained=None):
    reference = ReferenceFile(
        images=1437, split="train", shape=[1, 8, 8], images_sha256="c" * 64, extractor="classifier-aaaa",
        extractor_sha256="a" * 64, features=64,
    )  # fmt: skip
    extractor = load_data_spec(ROOT).datasets["digits"].extractor
    found = Evaluated(samples, sets, earlier, initial, trained or make_awareness(), 7, LOSSES)
    return make_ddpm_record(make_run(), COMPUTE, found, reference, EVALUATION, extractor, {"torch": "2"})


def test_a_record_has_means_spread_and_the_best_snapshot():
    sets = [make_scores(5.0, 1.0), make_scores(7.0, 2.0), make_scores(9.0, 6.0)]
    record = make_record(sets, [make_scores(30.0), make_scores(4.0)], make_samples())
    assert (record.fid, record.fid_spread) == (7.0, 2.0)
    assert (record.kid, record.inception_score, record.inception_score_split) == (3.0, 6.0, 9.0)
    assert (record.inception_score_biased, record.inception_score_biased_split) == (12.0, 15.0)
    assert (record.fid_best, record.best_snapshot) == (4.0, 250)
    assert [(one.step, one.scores.fid) for one in record.snapshots] == [(100, 30.0), (250, 4.0), (500, 5.0)]
    assert record.sets == sets
    assert (record.training_steps, record.num_params) == (500, 7)
    assert (record.protocol.images, record.protocol.sets, record.protocol.sampling_steps) == (60, 3, 50)
    assert (record.protocol.weights, record.protocol.reference_images) == ("trained", 1437)
    assert (record.noise_loss, record.noise_loss_shuffled) == pytest.approx((0.15, 0.5))
    assert (record.noise_loss_mean_level, record.time_use) == pytest.approx((0.3, 0.15))


def test_the_first_of_equal_snapshots_is_the_best():
    record = make_record([make_scores(4.0)] * 3, [make_scores(4.0), make_scores(4.0)], make_samples())
    assert record.best_snapshot == 100


def test_one_set_has_no_spread_and_may_be_the_best():
    record = make_record([make_scores(3.0)], [make_scores(4.0)], make_samples(sets=1, snapshots=[100]))
    assert record.fid_spread is None
    assert (record.fid_best, record.best_snapshot) == (3.0, 500)


def test_awareness_is_the_mean_over_blocks_and_none_where_one_is():
    awareness = make_awareness(0.75), make_awareness(None)
    record = make_record([make_scores(3.0)], [], make_samples(sets=1, snapshots=[]), *awareness)
    assert (record.change_initial, record.change) == (2.0, 2.0)  # at the last level
    assert (record.share_initial, record.share) == (0.5, None)
    record = make_record([make_scores(3.0)], [], make_samples(sets=1, snapshots=[]))
    assert (record.change_initial, record.share_initial, record.initial) == (None, None, None)


def test_samples_of_other_steps_than_the_runs_are_refused():
    check_steps(make_run(), make_samples())
    check_steps(make_run(weights="theirs"), make_samples(steps=0, snapshots=[]))
    with pytest.raises(ValueError, match=r"steps = 400: the run's weights have 500"):
        check_steps(make_run(), make_samples(steps=400))
    with pytest.raises(ValueError, match=r"steps = 500: the run's weights have 0"):
        check_steps(make_run(weights="theirs"), make_samples())


@pytest.mark.parametrize("snapshots", [[250, 100], [100, 100], [500], [0, 100]])
def test_snapshots_that_do_not_ascend_to_the_last_step_are_refused(snapshots: list[int]):
    with pytest.raises(ValueError, match="not ascending between 0 and steps = 500"):
        make_samples(snapshots=snapshots)


def test_a_sample_set_is_whole_or_refused(tmp_path: Path):
    path = tmp_path / "set-0.safetensors"
    with pytest.raises(ValueError, match="the file is missing"):
        read_set(path, 5, [1, 4, 4])
    write_arrays(path, {"images": draw_images(0, 5)})
    assert np.array_equal(read_set(path, 5, [1, 4, 4]), draw_images(0, 5))
    with pytest.raises(ValueError, match=r"shape \[5, 1, 4, 4\], expected \[6, 1, 4, 4\]"):
        read_set(path, 6, [1, 4, 4])
    with pytest.raises(ValueError, match=r"expected \[5, 3, 4, 4\]"):
        read_set(path, 5, [3, 4, 4])
    write_arrays(path, {"images": np.zeros((5, 1, 4, 4), np.float32)})
    with pytest.raises(ValueError, match="no array `images` of uint8"):
        read_set(path, 5, [1, 4, 4])


def test_a_failure_in_place_of_samples_is_read(tmp_path: Path):
    with pytest.raises(SpecError, match=r"samples\.json: the file is missing"):
        read_samples(tmp_path)
    (tmp_path / "samples.json").write_text("{")
    with pytest.raises(SpecError, match=r"samples\.json: not JSON"):
        read_samples(tmp_path)
    (tmp_path / "failure.json").write_text('{"epoch": 1, "step": 4, "reason": "diverged"}')
    assert read_samples(tmp_path) == Failure(epoch=1, step=4, reason="diverged")
    (tmp_path / "failure.json").write_text('{"epoch": 0, "step": 4, "reason": "diverged"}')
    with pytest.raises(SpecError, match=r"failure\.json: epoch = 0"):
        read_samples(tmp_path)


def make_project(root: Path) -> str:
    """What training, sampling, extractor and reference leave for the evaluation; returns the name of the run."""
    run = ddpm_run(steps=4, snapshot_every=2)
    copy_settings(root)
    torch.manual_seed(0)
    extractor = root / "extractors" / "digits"
    extractor.mkdir(parents=True)
    network = FeatureClassifier(1, 4, 3)
    write_weights(extractor / "weights.safetensors", network.state_dict())
    digest = hashlib.sha256((extractor / "weights.safetensors").read_bytes()).hexdigest()
    about = {"kind": "classifier", "sha256": digest, "features": 4, "channels": 1, "classes": 3, "test_accuracy": 9.0}
    (extractor / "extractor.json").write_text(json.dumps(about))
    train = draw_images(0, 250, (1, 8, 8))
    write_reference(root / "references" / "digits", make_split(train), 250, load_extractor(extractor, "cpu", 64))
    name = "ddpm/digits/baseline/0"
    (root / "data" / "ddpm" / "digits").mkdir(parents=True)
    write_split(root / "data" / "ddpm" / "digits" / "train.safetensors", make_split(train))
    write_split(root / "data" / "ddpm" / "digits" / "test.safetensors", make_split(draw_images(4, 30, (1, 8, 8))))
    runs, samples = root / "runs" / name, root / "samples" / name
    samples.mkdir(parents=True)
    assert train_ddpm_run(run, runs) is None
    written = make_samples(sets=2, snapshots=[2], steps=4, images=210)
    (samples / "samples.json").write_text(written.model_dump_json())
    for index in range(2):
        write_arrays(samples / name_set(index), {"images": draw_images(index + 1, 210, (1, 8, 8))})
    write_arrays(samples / name_sampled_snapshot(2), {"images": draw_images(3, 210, (1, 8, 8), high=128)})
    assert (samples / "snapshot-0000002.safetensors").is_file()
    return name


@pytest.mark.ci
def test_the_stage_writes_the_record(tmp_path: Path):
    name = make_project(tmp_path)
    work = Workspace(tmp_path)
    command = [sys.executable, "-m", "stages.evaluate_ddpm", "digits", "baseline", "0"]
    work.run(*command, PYTHONPATH=str(ROOT))
    record = read_document(evaluation_path(tmp_path, "ddpm", "digits", "baseline", 0), DdpmRecord)
    assert (len(record.sets), [one.step for one in record.snapshots]) == (2, [2, 4])
    assert record.fid_best < record.snapshots[0].scores.fid
    assert record.sets[0].fid != record.sets[1].fid
    assert set(record.protocol.versions) == {"torch", "torch-fidelity", "numpy"}
    weights = load_file(tmp_path / "runs" / name / "ema-0000004.safetensors")
    assert record.num_params == sum(value.numel() for value in weights.values())
    blocks = sum(key.endswith("norm2.weight") for key in weights)
    for awareness in (record.initial, record.trained):
        assert awareness is not None
        assert len(awareness.block_change) == len(awareness.block_share) == blocks
        assert {len(change) for change in awareness.block_change} == {len(awareness.levels)}
    assert record.initial != record.trained
    assert record.noise_losses is not None
    assert record.noise_loss == pytest.approx(sum(record.noise_losses.right) / 20)
    assert record.time_use == pytest.approx(sum(record.noise_losses.mean_level) / 20 - record.noise_loss)
    # A failed run is a result, too.
    (tmp_path / "samples" / name / "failure.json").write_text('{"epoch": 1, "step": 4, "reason": "diverged"}')
    work.run(*command, PYTHONPATH=str(ROOT))
    failed = read_document(evaluation_path(tmp_path, "ddpm", "digits", "baseline", 0), Failure)
    assert (failed.epoch, failed.step, failed.reason) == (1, 4, "diverged")
    assert failed.settings["training.steps"] == record.settings["training.steps"] == 4
    assert record.settings["sampling.images"] == 210
    assert record.settings["extractor.kind"] == "classifier"
    assert "sampling.images" not in failed.settings


# ---- The record of a NODE --------------------------------------------------------------------------------------------


def make_time_awareness(**fields) -> TimeAwareness:
    found = {"times": [0.5, 1.0], "change": [0.1, 0.2], "site_change": [[0.0, 0.1]], "site_share": [0.3, 0.5]}
    return TimeAwareness.model_validate(found | fields)


def test_the_record_of_a_node_by_hand():
    labels, logits = np.array([0, 1]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    history = [
        {"test_accuracy": 50.0, "nfe_train": 20.0, "nfe_backward": None},
        {"test_accuracy": 50.0, "nfe_train": 26.0, "nfe_backward": 32.0},
    ]
    best, last = Predictions(logits, torch.tensor([20, 26])), Predictions(1 - logits, torch.tensor([-1, -1]))
    found = EvaluatedNode(best, last, Predictions(logits.flip(1), best.nfe), None, make_time_awareness(), 30)
    run = resolve("node", arm="groups=1")
    record = make_node_record(run, COMPUTE, found, labels, history)
    assert (record.settings["network.groups"], record.settings["training.epochs"]) == (1, run.training.epochs)
    assert record.settings["compute.threads"] == COMPUTE.threads
    assert (record.accuracy, record.accuracy_last, record.nfe, record.nfe_last) == (50, 50, 23, None)
    assert (record.best_epoch, record.epochs, record.images, record.num_params) == (1, 2, 2, 30)
    assert (record.nfe_train, record.nfe_train_last, record.nfe_backward) == (20, 26, None)
    assert (record.nfe_backward_last, record.nll) == (32, pytest.approx(math.log(1 + math.e) - 0.5))
    assert (record.change, record.share, record.change_initial) == (0.2, 0.4, None)
    assert (record.accuracy_frozen, record.nll_frozen) == (50, pytest.approx(math.log(1 + math.e) - 0.5))
    assert record.time_use == pytest.approx(0)
    empty = make_node_record(run, COMPUTE, replace(found, frozen=None), labels, history)
    assert (empty.accuracy_frozen, empty.nll_frozen, empty.time_use) == (None, None, None)


@pytest.mark.ci
def test_a_node_run_edited_by_hand_is_named_in_one_line(tmp_path: Path):
    folder = tmp_path / "runs" / "node" / "digits" / "baseline" / "0"
    folder.mkdir(parents=True)
    (folder / "failure.json").write_text('{"epoch": 1, "step": 4}')
    whole = describe_run(resolve("node"), COMPUTE)
    for text, says in (
        (whole, r"failure\.json: reason: this key is required"),
        (whole.replace('"epochs"', '"epoch"'), r"run\.json: run\.training: unknown key epoch"),
        ("{}", r"run\.json: not a resolved run; `dvc repro` makes"),
    ):
        (folder / "run.json").write_text(text)
        command = [sys.executable, "-m", "stages.evaluate_node", "digits", "baseline", "0"]
        result = Workspace(tmp_path).run(*command, ok=False, PYTHONPATH=str(ROOT))
        assert result.returncode == 1
        assert re.fullmatch(rf"error: runs/node/digits/baseline/0/{says}.*\n", result.stderr), result.stderr


# ---- Anchors: published values, where weights and data are at hand ---------------------------------------------------

ANCHORS = {name: os.environ.get(name) for name in ("PIPELINE_INCEPTION_WEIGHTS", "PIPELINE_CIFAR10_ARCHIVE")}


@pytest.mark.skipif(not all(ANCHORS.values()), reason=f"set {' and '.join(ANCHORS)} to the files; hours without a GPU")
@pytest.mark.timeout(0)
def test_published_values_of_cifar10():
    """IS of the training split in 10 splits: torch-fidelity's README; FID of the test split: stylegan2-ada#53."""
    path, archive = (Path(str(value)) for value in ANCHORS.values())
    dataset = find_dataset(load_data_spec(ROOT), "cifar10")
    spec = dataset.extractor.model_copy(update={"path": str(path.resolve())})
    device = choose_device(load_compute(find_settings()).model_copy(update={"device": "auto", "tf32": False}))
    extract = open_extractor(register_inception(find_weights(spec, NOWHERE, ROOT), spec.sha256), device, 256)
    train, test = (extract(split.images) for split in read_cifar(archive, 10))
    mean, std = measure_inception_score(train.logits_unbiased, 10)
    assert len(train.features) == dataset.train_images
    assert mean == pytest.approx(11.23678, rel=1e-3)
    assert 0.04 < std < 0.2  # 0.09514; it depends on the order of the images
    fid = measure_fid(measure_statistics(test.features), measure_statistics(train.features))
    assert fid == pytest.approx(3.1, abs=0.1)


# ---- Statistics over seeds -------------------------------------------------------------------------------------------


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
