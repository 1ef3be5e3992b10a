"""What the settings ask of this machine, which no file of the project tells."""

import re
import sys
from pathlib import Path

import pytest
from problems import ROOT
from trainings import COMPUTE
from workspace import Workspace, copy_project

from pipeline.compute.device import check_compute
from pipeline.run.machine import OUTPUTS, check_links
from pipeline.schema.base import MachineError


def test_every_output_is_in_a_folder_that_is_looked_at():
    stages = Workspace(ROOT).read("dvc.yaml")["stages"].values()
    outs = [
        out for stage in stages for key in ("outs", "metrics", "plots") for out in stage.get("do", stage).get(key, [])
    ]
    names = {str(name).split("/")[0] for out in outs for name in (out if isinstance(out, dict) else [out])}
    assert names == set(OUTPUTS)


@pytest.mark.parametrize("link", ["runs", "samples", "records/node", "runs/node/digits/baseline"])
def test_a_link_to_another_disk_is_refused_and_the_right_way_named(tmp_path: Path, link: str):
    path = tmp_path / "project" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path)
    with pytest.raises(MachineError, match=rf"^{link}: a symbolic link, .*`dvc cache dir --local FOLDER`$"):
        check_links(tmp_path / "project")


def test_a_link_to_a_disk_that_is_not_there_is_refused_too(tmp_path: Path):
    (tmp_path / "runs").symlink_to(tmp_path / "unmounted")
    with pytest.raises(MachineError, match=r"^runs: a symbolic link"):
        check_links(tmp_path)


def test_links_to_files_and_elsewhere_are_fine(tmp_path: Path):
    (tmp_path / "runs" / "node").mkdir(parents=True)
    (tmp_path / "runs" / "node" / "weights").symlink_to(ROOT / "LICENSE")  # DVC's own: cache.type symlink
    (tmp_path / "downloads").symlink_to(ROOT)
    check_links(tmp_path)
    check_links(ROOT)


def test_a_compiler_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    compute = COMPUTE.model_copy(update={"compile": True})
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(MachineError, match=r"compute\.compile = true: needs a C\+\+ compiler, and 'no-such-compiler"):
        check_compute(compute)
    monkeypatch.setenv("CXX", sys.executable)
    check_compute(compute)
    check_compute(COMPUTE)


REFUSALS = {
    "link": "error: runs: a symbolic link, .*`dvc cache dir --local FOLDER`",
    "cuda": r"error: params\.yaml: compute\.device = 'cuda': torch sees no GPU here; allowed are auto and cpu",
}


@pytest.mark.parametrize("fault", ["link", pytest.param("cuda", marks=pytest.mark.slow)])
def test_the_check_and_a_stage_of_dvcs_refuse_it_in_one_line(tmp_path: Path, fault: str):
    work = copy_project(tmp_path / "project")
    if fault == "link":
        (tmp_path / "disk").mkdir()
        (work.root / "runs").symlink_to(tmp_path / "disk")
    else:
        params = work.read("params.yaml")
        params["compute"]["device"] = "cuda"
        work.write("params.yaml", params)
    work.run("python", "-m", "stages.check")
    checked = work.run("python", "-m", "pipeline", "check", "--quiet", ok=False)
    command = ("python", "-m", "stages.train_node", "digits", "baseline", "0")
    started = work.run(*command, ok=False, DVC_STAGE="train_node")
    assert (checked.returncode, started.returncode) == (1, 1)
    assert re.fullmatch(f"{REFUSALS[fault]}\n", checked.stderr)
    assert re.fullmatch(f"{REFUSALS[fault]}; then `dvc checkout` brings back what DVC has removed\n", started.stderr)


def test_the_check_imports_no_torch_unless_asked_for_a_gpu():
    code = "import sys; sys.argv = ['pipeline', 'check', '--quiet']; from pipeline.__main__ import main; main()"
    Workspace(ROOT).run("python", "-c", f"{code}; assert 'torch' not in sys.modules")
