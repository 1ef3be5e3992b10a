"""docs/recipes.md: every recipe's settings, edits and commands, in a copy of the reduced panel."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from quick_stages import list_ran, make_project
from ruamel.yaml import YAML
from test_cluster import slurm
from workspace import ROOT, Workspace, copy_workspace

PAGE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
Blocks = list[tuple[str, str]]


def list_blocks(title: str) -> Blocks:
    """Language and content of a recipe's blocks."""
    return re.findall(r"^```(\w+)\n(.*?)^```", RECIPES[title], re.MULTILINE | re.DOTALL)


def merge(old: Any, new: Any) -> Any:
    """What a block changes: mappings are merged, and `order` of the report is added to."""
    for key, value in new.items():
        if isinstance(value, dict) and key in old:
            merge(old[key], value)
        else:
            old[key] = [*old[key], *value] if key == "order" else value
    return old


def change(work: Workspace, block: str) -> None:
    """Apply a block of YAML to the file that its first line names."""
    name = block.splitlines()[0].removeprefix("# ")
    path = work.root / name
    if name == "dvc.yaml":  # has anchors, which the block uses
        path.write_text(path.read_text().rstrip("\n") + "\n\n" + block.partition("stages:\n")[2])
        return
    content = YAML(typ="safe").load(block)
    work.write(name, merge(work.read(name), content) if path.exists() else content)


def patch(work: Workspace, block: str) -> None:
    """Apply a block of diff."""
    for name, hunk in re.findall(r"^--- a/(\S+)\n(.*?)(?=^--- |\Z)", block, re.MULTILINE | re.DOTALL):
        old, new = ("\n".join(re.findall(rf"^\{sign}(.*)$", hunk, re.MULTILINE)) for sign in "-+")
        text = (work.root / name).read_text()
        assert text.count(old) == 1, old
        (work.root / name).write_text(text.replace(old, new))


def follow(work: Workspace, title: str, **env: str) -> list[str]:
    """Do what a recipe says; returns what each of its blocks of commands printed."""
    printed = []
    for kind, block in list_blocks(title):
        if kind == "yaml":
            change(work, block)
        elif kind == "diff":
            patch(work, block)
        elif kind == "sh":
            printed.append(work.run("bash", "-ec", block, **env).stdout)
    return printed


def list_logs(work: Workspace) -> set[str]:
    """The steps that the last run made."""
    return {path.stem for path in (work.root / "logs").glob("*.txt")}


def forget_logs(work: Workspace) -> None:
    for path in (work.root / "logs").glob("*.txt"):
        path.unlink()


@pytest.fixture
def work(calm: Workspace, tmp_path: Path) -> Workspace:
    workspace = copy_workspace(calm, tmp_path / "project")
    forget_logs(workspace)
    return workspace


def read_record(work: Workspace, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((work.root / name).read_text())
    return record


def test_there_are_twelve():
    assert len(RECIPES) == 12


@pytest.mark.ci
def test_five_seeds_of_table_2(work: Workspace):
    printed = follow(work, "Five seeds of Table 2, and nothing else")
    assert {name.split("_")[1].partition("@")[0] for name in list_logs(work) if name.startswith("train_")} == {"node"}
    table = (work.root / "reports/table2.md").read_text()
    assert [line.split("|")[3].strip() for line in table.splitlines() if "`time=mlp,zero_bias=" in line] == ["5"] * 3
    assert "Table 2" in printed[-1]


@pytest.mark.ci
def test_own_activation(work: Workspace):
    ((_, block), *_) = (found for found in list_blocks("My own activation") if found[0] == "diff")
    assert len(re.findall(r"^\+", block, re.MULTILINE)) == 2
    follow(work, "My own activation")
    trained = {name for name in list_logs(work) if name.startswith("train_")}
    assert trained == {"train_node_digits@digits-activation=mish-0"}
    assert read_record(work, "records/node/digits/activation=mish/0.json")["status"] == "completed"


@pytest.mark.ci
def test_fashion_from_a_folder(work: Workspace):
    generator = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 3)):
        for label in range(10):
            folder = work.root / "fashion" / part / str(label)
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 20, (28, 28)) + 20 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    *edits, (_, command) = list_blocks("Fashion-MNIST from a folder")
    for _, block in edits:
        change(work, block.replace("epochs: 5", "epochs: 1"))
    words = shlex.split(command)
    said = work.run(*words, ok=False)
    logged = "".join(path.read_text() for path in (work.root / "logs").glob("fetch_node*.txt"))
    found = re.search(r"source.sha256: ([0-9a-f]{64}).*train_images: (\d+).*test_images: (\d+)", logged + said.stderr)
    assert found is not None, said.stdout + said.stderr + logged
    data = work.read("specs/data.yaml")
    data["datasets"]["fashion"]["source"]["sha256"] = found[1]
    data["datasets"]["fashion"] |= {"train_images": int(found[2]), "test_images": int(found[3])}
    work.write("specs/data.yaml", data)
    work.run(*words)
    for arm in ("baseline", "time=none"):
        assert read_record(work, f"records/node/fashion/{arm}/0.json")["status"] == "completed"


@pytest.mark.ci
def test_the_node_study_alone(work: Workspace):
    """What would go to Slurm; test_cluster.py runs jobs there."""
    ((_, block),) = list_blocks("The NODE study alone, on Slurm")
    words = shlex.split(block)
    assert words[3:6] == ["run", "record_node", "--slurm"]
    change(work, "# params.yaml\nnode: {digits: {seeds: [5]}}\nddpm: {digits: {seeds: [5]}}\n")
    printed = work.run("python", "-m", "pipeline", "run", "record_node", "--dry-run").stdout
    assert "runs: train_node_digits@digits-baseline-5" in printed
    assert "ddpm" not in printed


@slurm
@pytest.mark.ci
def test_the_node_study_alone_on_slurm(work: Workspace):
    change(work, "# params.yaml\nnode: {digits: {seeds: [5]}}\nddpm: {digits: {seeds: [5]}}\n")
    ((_, block),) = list_blocks("The NODE study alone, on Slurm")
    work.run(*shlex.split(block.replace("partition=gpu,", "")))
    assert (work.root / "records/node/digits/baseline/5.json").exists()
    assert not (work.root / "runs/ddpm/digits/baseline/5").exists()


TELLS = """
import os, sys, time
from pathlib import Path

name = sys.argv[1]
Path("out").mkdir(exist_ok=True)
Path(f"out/{name}.txt").write_text(name)
start = time.time()
time.sleep(2)
with Path("ran.txt").open("a") as file:
    file.write(f"{os.environ['CUDA_VISIBLE_DEVICES']}:{start}:{time.time()}\\n")
"""


@pytest.mark.ci
def test_four_at_once_on_eight_gpus(tmp_path: Path):
    """A driver's tool that tells of eight GPUs, and eight trainings that say on which they run."""
    work = make_project(tmp_path / "project", {f"train_{index}": [] for index in range(8)})
    (work.root / "job.py").write_text(TELLS)
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nseq 0 7\n")
    tool.chmod(0o755)
    ((_, block),) = list_blocks("Four trainings at once on a machine with eight GPUs")
    devices = ",".join(map(str, range(8)))
    path = f"{tool.parent}:{Path(sys.executable).parent}:/usr/bin:/bin"
    work.run(*shlex.split(block, comments=True), PATH=path, CUDA_VISIBLE_DEVICES=devices)
    ran = [line.split(":") for line in list_ran(work)]
    assert {gpu for gpu, *_ in ran} == {"0", "1", "2", "3"}
    assert len(ran) == 8
    moments = [float(start) for _, start, _ in ran]
    assert max(sum(float(a) <= moment < float(b) for _, a, b in ran) for moment in moments) == 4


@pytest.mark.ci
def test_two_sweeps_compared(work: Workspace):
    (work.root / "notes.txt").write_text("something to commit")
    printed = follow(work, "Two sweeps compared")[-1]
    assert "groups=2" in printed
    assert "new" in printed


@pytest.mark.ci
def test_more_epochs(work: Workspace):
    follow(work, "More epochs")
    assert read_record(work, "records/node/digits/epochs=18/0.json")["epochs"] == 18
    assert not [name for name in list_logs(work) if name.startswith("train_") and "epochs" not in name]


@pytest.mark.ci
def test_disk_space_back(work: Workspace):
    def measure() -> int:
        return sum(path.stat().st_size for path in (work.root / ".dvc/cache/files").rglob("*") if path.is_file())

    change(work, "# params.yaml\nddpm: {digits: {arms: [baseline]}}\n")
    work.drive("record_ddpm")
    before = measure()
    follow(work, "Disk space back")
    assert measure() < before
    assert "0 to run" in work.run("python", "-m", "pipeline", "run", "record_ddpm", "--dry-run").stdout


@pytest.mark.ci
def test_a_trained_model_in_python(work: Workspace):
    ((_, code),) = list_blocks("A trained model in Python")
    printed = work.run(sys.executable, "-c", code, PYTHONPATH=str(work.root)).stdout
    accuracy = read_record(work, "records/node/digits/baseline/0.json")["accuracy"]
    assert float(printed.split()[-1]) == pytest.approx(accuracy / 100)


@pytest.mark.ci
def test_the_notebook_runs(work: Workspace):
    notebook = json.loads((ROOT / "docs/python.ipynb").read_text(encoding="utf-8"))
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    printed = work.run(sys.executable, "-c", code, PYTHONPATH=str(work.root)).stdout
    assert "accuracy" in printed
    assert "blind by equation 5: True" in printed


@pytest.mark.ci
def test_one_more_arm(work: Workspace):
    follow(work, "One more arm, quickly")
    assert {name for name in list_logs(work) if name.startswith(("train_", "evaluate_", "sample_"))} == {
        "train_node_digits_more@digits-groups=1-0", "evaluate_node_digits_more@digits-groups=1-0",
    }  # fmt: skip


@pytest.mark.ci
def test_a_figure_for_my_paper(work: Workspace):
    follow(work, "A figure for my paper")
    assert (work.root / "reports/my_figure.pdf").read_bytes().startswith(b"%PDF")


SAVE = """
from diffusers import UNet2DModel

sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (16, 16), "norm_num_groups": 4}
blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "layers_per_block": 1}
UNet2DModel(**sizes, **blocks).save_pretrained("my-model")
"""


@pytest.mark.ci
def test_my_diffusers_model_audited(tmp_path: Path):
    work = Workspace(tmp_path)
    work.run(sys.executable, "-c", SAVE)
    (printed,) = follow(work, "My diffusers model audited", PYTHONPATH=str(ROOT))
    assert "survives" in printed
    assert (tmp_path / "audit.html").stat().st_size > 0


def test_the_notebook_is_small_and_holds_no_output():
    notebook = json.loads((ROOT / "docs/python.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(notebook["cells"]) < 20
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
