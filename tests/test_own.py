"""Images of the user's own: read as they are, or refused in one line that says what to write."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML
from workspace import copy_project, copy_settings

from pipeline.data.arrays import Split, read_split
from pipeline.data.own import fetch_own
from pipeline.schema.base import SpecError
from pipeline.schema.data import Dataset, FolderSource, NpzSource
from pipeline.schema.project import load_project

EXTRACTOR = {"kind": "classifier", "features": 8, "epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "seed": 0}


def describe(source: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A dataset as specs/data.yaml has it: two classes, 8 and 2 images."""
    facts = {"channels": 1, "classes": 2, "train_images": 8, "test_images": 2}
    return {"title": "own", "scale": "embedded", **facts, **fields, "source": source, "extractor": EXTRACTOR}


def fetch(root: Path, source: dict[str, Any], **fields: Any) -> tuple[Split, Split]:
    """Fetch what is there, with the checksum that the first try says."""
    dataset = Dataset.model_validate(describe(source, **fields))
    assert isinstance(dataset.source, FolderSource | NpzSource)
    if dataset.source.sha256 is None:
        with pytest.raises(SpecError, match=r"source\.sha256: [0-9a-f]{64} \(not null\); write that into") as error:
            fetch_own(dataset, dataset.source, root)
        sha256 = str(error.value).split("source.sha256: ")[1][:64]
        return fetch(root, {**source, "sha256": sha256}, **fields)
    return fetch_own(dataset, dataset.source, root)


def refused(root: Path, source: dict[str, Any], **fields: Any) -> str:
    dataset = Dataset.model_validate(describe(source, **fields))
    assert isinstance(dataset.source, FolderSource | NpzSource)
    with pytest.raises(SpecError) as error:
        fetch_own(dataset, dataset.source, root)
    return str(error.value)


def draw(path: Path, value: int, size: tuple[int, int] = (10, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(path)


def draw_classes(folder: Path, images: int = 5) -> None:
    """Two classes, each image with a grey of its own; hidden files between them."""
    for label, name in enumerate(("cat", "dog")):
        for index in range(images):
            draw(folder / name / f"{index}.png", 100 * label + 10 * index, (8 + index, 8), "L")
        (folder / name / ".DS_Store").write_bytes(b"x")
    (folder / ".hidden").mkdir()


FOLDER = {"kind": "folder", "path": "images", "size": 6, "test_fraction": 0.2, "split_seed": 0}
NPZ = {"kind": "npz", "path": "own.npz", "test_fraction": 0.2, "split_seed": 0}


def test_a_folder_of_classes_is_split_by_class_and_squared(tmp_path: Path):
    draw_classes(tmp_path / "images")
    train, test = fetch(tmp_path, FOLDER)
    assert train.images.shape == (8, 1, 6, 6)
    assert test.labels.tolist().count(1) == 1
    images = np.concatenate([train.images, test.images])
    labels = np.concatenate([train.labels, test.labels])
    assert sorted(images[:, 0, 0, 0].tolist()) == [0, 10, 20, 30, 40, 100, 110, 120, 130, 140]
    assert ((images[:, 0, 0, 0] >= 100) == labels).all()
    assert np.array_equal(train.images, fetch(tmp_path, {**FOLDER, "path": str(tmp_path / "images")})[0].images)


def test_a_folder_with_a_split_of_its_own_is_kept_apart(tmp_path: Path):
    for part, count in (("train", 4), ("test", 1)):
        draw_classes(tmp_path / "images" / part, count)
    source = {key: FOLDER[key] for key in ("kind", "path", "size")}
    train, test = fetch(tmp_path, source, channels=3)
    assert (train.images.shape, test.images.shape) == ((8, 3, 6, 6), (2, 3, 6, 6))
    assert train.labels.tolist() == [0] * 4 + [1] * 4
    (tmp_path / "images" / "test" / "dog").rename(tmp_path / "images" / "test" / "cow")
    assert "train/ and test/ have different classes: cow, dog" in refused(tmp_path, source)


def test_an_image_is_upright_and_cut_in_the_middle(tmp_path: Path):
    """Red left, green in the middle, blue right; and the same as a camera on its side writes it."""
    pixels = np.zeros((4, 12, 3), np.uint8)
    for third in range(3):
        pixels[:, 4 * third : 4 * third + 4, third] = 255
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    for name in ("cat", "dog"):
        for index in range(5):
            (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "images" / name / f"{index}.png")
    image.rotate(90, expand=True).save(tmp_path / "images" / "cat" / "0.png", exif=exif)
    train, test = fetch(tmp_path, {**FOLDER, "size": 4}, channels=3)
    expected = np.zeros((3, 4, 4), np.uint8)
    expected[1] = 255
    for images in (train.images, test.images):
        assert (images == expected).all()


def test_a_changed_folder_is_a_changed_setting(tmp_path: Path):
    draw_classes(tmp_path / "images")
    before = refused(tmp_path, FOLDER)
    source = {**FOLDER, "sha256": before.split("sha256: ")[1][:64]}
    dataset = Dataset.model_validate(describe(source))
    assert isinstance(dataset.source, FolderSource)
    fetch_own(dataset, dataset.source, tmp_path)
    (tmp_path / "images" / "cat" / "0.png").rename(tmp_path / "images" / "cat" / "9.png")
    assert f"(not {source['sha256']}); write that into specs/data.yaml" in refused(tmp_path, source)
    draw(tmp_path / "images" / "cat" / "new.png", 5)
    assert "train_images: 8 (not 7), test_images: 3 (not 2)" in refused(tmp_path, source, train_images=7)


def break_image(folder: Path) -> None:
    (folder / "cat" / "0.png").write_bytes(b"GIF89a no")


def cut_image(folder: Path) -> None:
    path = folder / "cat" / "0.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:1000])


def deepen(folder: Path) -> None:
    Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(folder / "cat" / "0.png")


def empty(folder: Path) -> None:
    for path in (folder / "cat").glob("*.png"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (break_image, "images/cat/0.png: not an image that can be read: cannot identify"),
        (cut_image, "images/cat/0.png: not an image that can be read"),
        (deepen, "images/cat/0.png: not an image that can be read: more than 8 bits a channel"),
        (empty, "images/cat: no image in it"),
        (lambda folder: (folder / "cat" / "sub").mkdir(), "images/cat/sub: not an image that can be read"),
        (lambda folder: draw(folder / "eel" / "0.png", 1), "images: test_fraction = 0.2: The least populated class"),
        (shutil.rmtree, "specs/data.yaml: source.path = 'images': no such folder"),
        (lambda folder: [shutil.rmtree(folder / name) for name in ("cat", "dog")], "images: no folder in it; one for"),
    ],
)
def test_a_wrong_folder_is_one_line(damage: Callable[[Path], object], says: str, tmp_path: Path):
    draw_classes(tmp_path / "images")
    damage(tmp_path / "images")
    assert says in refused(tmp_path, FOLDER)


def test_without_a_fraction_a_folder_needs_train_and_test(tmp_path: Path):
    draw_classes(tmp_path / "images")
    line = refused(tmp_path, {key: FOLDER[key] for key in ("kind", "path", "size")})
    assert "images/train: no such folder; without test_fraction, train/ and test/ are needed" in line


def write_npz(root: Path, **arrays: np.ndarray) -> None:
    np.savez(root / "own.npz", **arrays)  # type: ignore[arg-type]


GREY = np.arange(10 * 16, dtype=np.uint8).reshape(10, 4, 4)
LABELS = np.arange(10) % 2


def test_arrays_are_brought_to_our_layout(tmp_path: Path):
    write_npz(tmp_path, images=GREY, labels=LABELS.astype(np.uint8))
    train, test = fetch(tmp_path, NPZ)
    assert train.images.shape == (8, 1, 4, 4)
    assert sorted(train.images[:, 0, 0, 0].tolist() + test.images[:, 0, 0, 0].tolist()) == GREY[:, 0, 0].tolist()
    colours = np.stack([GREY, GREY + 1, GREY + 2], -1)
    write_npz(tmp_path, train_images=colours[:8], train_labels=LABELS[:8], test_images=colours[8:], test_labels=[0, 1])
    train, test = fetch(tmp_path, {"kind": "npz", "path": "own.npz"}, channels=3)
    assert np.array_equal(train.images, colours[:8].transpose(0, 3, 1, 2))
    assert test.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"images": GREY.astype(float), "labels": LABELS}, "images have the type float64; uint8"),
        ({"images": GREY[:, :3], "labels": LABELS}, "images have the shape [10, 3, 4]; [N, H, H] or [N, H, H, C]"),
        ({"images": GREY, "labels": LABELS[:9]}, "labels have the type int64 and the shape [9]; integers of"),
        ({"images": GREY, "labels": LABELS.astype(float)}, "labels have the type float64"),
        ({"images": GREY, "labels": LABELS * 2}, "labels are 0, 2; 0 to classes - 1 are needed"),
        ({"images": GREY}, "no array 'labels' in it; needed are images, labels"),
        ({"images": GREY, "labels": np.array([{}] * 10)}, "own.npz: Object arrays cannot be loaded"),
        ({"images": np.stack([GREY] * 3, -1), "labels": LABELS}, "channels: 3 (not 1)"),
        ({"images": GREY, "labels": np.arange(10) % 3}, "classes: 3 (not 2)"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_one_line(arrays: dict[str, np.ndarray], says: str, tmp_path: Path):
    write_npz(tmp_path, **arrays)
    assert says in refused(tmp_path, {**NPZ, "test_fraction": 0.4})


def test_what_is_no_archive_of_arrays_is_one_line(tmp_path: Path):
    assert refused(tmp_path, NPZ) == "specs/data.yaml: source.path = 'own.npz': no such file"
    np.save(tmp_path / "own.npy", GREY)
    assert "own.npy: not a NumPy archive" in refused(tmp_path, {**NPZ, "path": "own.npy"})


@pytest.mark.parametrize(
    ("source", "fields", "says"),
    [
        (FOLDER, {"channels": 2}, "channels = 2: images of source.kind = 'folder' have 1 or 3"),
        ({**FOLDER, "split_seed": None}, {}, "test_fraction and split_seed: give both, or neither"),
        ({**FOLDER, "size": 0}, {}, "size = 0: allowed: at least 1"),
        ({**FOLDER, "sha256": "abc"}, {}, "sha256 = 'abc'"),
        ({**NPZ, "file": "x"}, {}, "unknown key file; allowed: path, sha256, test_fraction, split_seed, kind"),
    ],
)
def test_a_wrong_source_is_refused_by_the_check(source: dict[str, Any], fields: dict[str, Any], says: str, tmp_path: Path):  # fmt: skip  # noqa: E501
    root, yaml = copy_settings(tmp_path), YAML()
    spec = yaml.load(root / "specs" / "data.yaml")
    spec["datasets"]["own"] = describe(source, **fields)
    yaml.dump(spec, root / "specs" / "data.yaml")
    with pytest.raises(SpecError, match=r"data\.yaml: line \d+: datasets\.own") as error:
        load_project(root)
    assert says in str(error.value)


@pytest.mark.ci
def test_the_stage_fetches_own_images_after_it_has_said_what_to_write(tmp_path: Path):
    root, yaml = copy_project(tmp_path / "project").root, YAML()
    draw_classes(root / "images")
    spec, node, panel = (yaml.load(root / name) for name in ("specs/data.yaml", "specs/node/study.yaml", "params.yaml"))
    spec["datasets"]["own"] = describe(dict(FOLDER), train_images=5)
    node["cases"]["own"] = copy.deepcopy(node["cases"]["digits"])
    panel["node"]["own"] = {"seeds": [], "arms": [], "more": {"seeds": [], "arms": []}}
    yaml.dump(spec, root / "specs" / "data.yaml")
    yaml.dump(node, root / "specs" / "node" / "study.yaml")
    yaml.dump(panel, root / "params.yaml")

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stages.fetch", "node", "own"]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    said = run().stderr
    assert said.startswith("error: the content of images has source.sha256: ")
    assert said.endswith("(not null), train_images: 8 (not 5); write that into specs/data.yaml\n")
    spec["datasets"]["own"]["train_images"] = 8
    spec["datasets"]["own"]["source"]["sha256"] = said.split("sha256: ")[1][:64]
    yaml.dump(spec, root / "specs" / "data.yaml")
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert read_split(root / "data/node/own/train.safetensors").images.shape == (8, 1, 12, 12)
