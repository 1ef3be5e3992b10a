"""Sources in their true formats, and augmentation against torchvision."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import ROOT
from torchvision.transforms.v2 import functional as reference

from pipeline.data.arrays import Split
from pipeline.data.batches import (
    adjust_hue,
    adjust_saturation,
    crop_randomly,
    flip_randomly,
    jitter_colours,
    normalise_images,
    order_images,
    split_batches,
)
from pipeline.data.download import fetch_file
from pipeline.data.fetch import fetch_digits, read_cifar, resize_images
from pipeline.data.preview import write_empty_preview, write_preview, write_trajectory
from pipeline.schema.data import CifarSource, DigitsSource, load_data_spec


def digits_source() -> DigitsSource:
    source = load_data_spec(ROOT).datasets["digits"].source
    assert isinstance(source, DigitsSource)
    return source


def describe_source(path: Path) -> CifarSource:
    content = path.read_bytes()
    return CifarSource(kind="cifar", file=path.name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def cifar_archive(
    path: Path, classes: int = 10, each: int = 4, members: int = 6, cut: int = 0, label: int = 0
) -> CifarSource:
    """Write an archive in CIFAR's binary format with `each` images a file."""
    generator = np.random.default_rng(0)
    if classes == 10:
        names = [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)] + [
            "cifar-10-batches-bin/test_batch.bin"
        ]
        labels = [[i % 10] for i in range(each)]
    else:
        names = ["cifar-100-binary/train.bin", "cifar-100-binary/test.bin"]
        labels = [[19, 99 - i] for i in range(each)]  # coarse, fine
    labels[-1][-1] += label
    with tarfile.open(path, "w:gz") as archive:
        for name in names[:members]:
            pixels = generator.integers(0, 256, (each, 3072), dtype=np.uint8)
            content = np.concatenate([np.array(labels, np.uint8), pixels], 1).tobytes()
            content = content[: len(content) - cut]
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return describe_source(path)


def fetch_from(path: Path, source: CifarSource, classes: int) -> tuple[Split, Split]:
    return read_cifar(fetch_file(source, [str(path)], path.parent / "downloads"), classes)


def test_the_digits_are_the_bundled_ones_split_by_class():
    train, test = fetch_digits(digits_source(), 10)
    assert (len(train.images), len(test.images)) == (1437, 360)
    assert train.images.shape[1:] == (1, 8, 8)
    assert (train.images.min(), train.images.max()) == (0, 255)
    shares = [np.bincount(split.labels, minlength=10) / len(split.labels) for split in (train, test)]
    assert np.abs(shares[0] - shares[1]).max() < 0.01
    together = np.concatenate([train.images, test.images]).reshape(1797, 64)
    assert len(np.unique(together, axis=0)) == 1797  # nothing twice, so nothing in both


def test_digits_with_another_checksum_are_refused():
    source = digits_source().model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"digits: sha256 is .* expected 000"):
        fetch_digits(source, 10)


def test_resizing_keeps_flat_images_flat_and_averages_to_the_same_mean():
    flat = np.full((2, 1, 8, 8), 77, np.uint8)
    assert (resize_images(flat, 18) == 77).all()
    train, _ = fetch_digits(digits_source(), 10)
    enlarged = resize_images(train.images[:200], 18)
    assert enlarged.shape == (200, 1, 18, 18)
    assert enlarged.mean() == pytest.approx(train.images[:200].mean(), rel=0.03)
    assert resize_images(train.images, 8) is train.images


@pytest.mark.parametrize("classes", [10, 100])
def test_cifars_binary_format_is_read_record_by_record(tmp_path: Path, classes: int):
    path = tmp_path / "cifar.tar.gz"
    train, test = fetch_from(path, cifar_archive(path, classes), classes)
    assert train.images.shape == ((20 if classes == 10 else 4), 3, 32, 32)
    assert test.images.shape == (4, 3, 32, 32)
    with tarfile.open(path) as archive:
        raw = archive.extractfile(archive.getnames()[0]).read()  # type: ignore[union-attr]
    offset = 1 if classes == 10 else 2
    assert train.labels[0] == raw[offset - 1]  # the fine label, where there are two
    assert train.images[0, 0, 0, 1] == raw[offset + 1]  # red, first row, second pixel
    assert train.images[0, 2, 31, 31] == raw[offset + 3071]  # blue, last pixel


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"members": 5}, r"cifar\.tar\.gz: no file cifar-10-batches-bin/test_batch\.bin in it"),
        ({"cut": 1}, r"cifar\.tar\.gz: .*/data_batch_1\.bin: has 12291 bytes, not a multiple of 3073"),
        ({"label": 9}, r"cifar\.tar\.gz: .*/data_batch_1\.bin: a label is 12, allowed are 0 to 9"),
    ],
)
def test_a_wrong_archive_is_refused(tmp_path: Path, how: dict[str, int], says: str):
    path = tmp_path / "cifar.tar.gz"
    with pytest.raises(ValueError, match=says):
        fetch_from(path, cifar_archive(path, **how), 10)  # type: ignore[arg-type]


def test_what_is_no_archive_is_refused(tmp_path: Path):
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"not a readable tar\.gz"):
        fetch_from(path, describe_source(path), 10)


def test_an_epoch_visits_every_image_once_and_keeps_the_last_batch():
    order = order_images(10, torch.Generator().manual_seed(0))
    batches = list(split_batches(order, 4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(torch.cat(batches).tolist()) == list(range(10))


def test_hue_and_saturation_are_torchvisions():
    images = torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    images[0] = 0.4  # grey has no hue
    for value in (-0.5, -0.05, 0.0, 0.03, 0.4):
        ours = adjust_hue(images, torch.full((6,), value))
        torch.testing.assert_close(ours, reference.adjust_hue(images, value), atol=2e-5, rtol=0)
    for value in (0.0, 0.95, 1.0, 1.3):
        ours = adjust_saturation(images, torch.full((6,), value))
        torch.testing.assert_close(ours, reference.adjust_saturation(images, value), atol=1e-5, rtol=0)


def test_jitter_differs_between_images_and_stays_within_its_bounds():
    image = torch.tensor([0.8, 0.4, 0.2]).view(1, 3, 1, 1).expand(500, 3, 1, 1)
    jittered = jitter_colours(image, 0.05, 0.05, torch.Generator().manual_seed(0))
    assert jittered.std(0).min() > 1e-3
    assert ((jittered - image).abs() < 0.2).all()
    assert torch.equal(jitter_colours(image, 0.0, 0.0, torch.Generator()), image)


def test_a_crop_is_a_window_of_the_padded_image_and_all_windows_come_up():
    image = torch.arange(1.0, 17).view(1, 1, 4, 4)
    crops = crop_randomly(image.expand(400, 1, 4, 4), 1, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(image[0, 0], (1, 1, 1, 1))
    windows = {tuple(padded[i : i + 4, j : j + 4].flatten().tolist()) for i in range(3) for j in range(3)}
    assert {tuple(crop.flatten().tolist()) for crop in crops} == windows


def test_flips_mirror_half_of_the_images():
    image = torch.arange(16.0).view(1, 1, 4, 4).expand(1000, 1, 4, 4)
    flipped = flip_randomly(image, torch.Generator().manual_seed(0))
    same = (flipped == image).flatten(1).all(1)
    mirrored = (flipped == image.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 400 < same.sum() < 600


def test_normalisation_uses_each_channels_constants():
    images = torch.tensor([0.5, 1.0]).view(1, 2, 1, 1)
    assert normalise_images(images, [0.5, 0.0], [0.1, 2.0]).flatten().tolist() == [0.0, 0.5]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_preview_shows_the_images_in_their_order(tmp_path: Path, channels: int):
    from PIL import Image

    images = np.zeros((6, channels, 8, 8), np.uint8)
    images[4] = 200
    write_preview(tmp_path / "grid.png", images, columns=3, rows=2, side=8)
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    assert picture.shape[:2] == (18, 28)
    assert (picture[12, 14] == 200).all()  # second row, second column
    assert (picture[2, 14] == 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_trajectories_has_a_column_a_moment_and_two_rows_an_image(tmp_path: Path, channels: int):
    from PIL import Image

    x = np.arange(6, dtype=np.uint8).reshape(3, 2, 1, 1, 1) + np.zeros((1, 1, channels, 8, 8), np.uint8)
    levels = np.array([999, 40, -1])
    write_trajectory(tmp_path / "t.png", {"x": x, "x0": x + 100, "levels": levels}, side=16)
    with Image.open(tmp_path / "t.png") as opened:
        assert opened.info["levels"] == "999, 40, image"
        picture = np.asarray(opened).reshape(2 * (16 + 2 + 16) + 8, 3 * 16 + 2 * 2, channels)
    for image, row in ((0, 0), (1, 42)):
        for moment, column in ((0, 0), (1, 18), (2, 36)):
            value = 2 * moment + image
            assert (picture[row : row + 16, column : column + 16] == value).all()
            assert (picture[row + 18 : row + 34, column : column + 16] == 100 + value).all()
    assert (picture[34:42] == 255).all()
    assert (picture[:, 16:18] == 255).all()
    write_empty_preview(tmp_path / "empty.png")
    with Image.open(tmp_path / "empty.png") as opened:
        assert "levels" not in opened.info
