"""A copy of this project in a folder of its own, with a panel small enough for a test."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import IO, Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
_HOME = tempfile.TemporaryDirectory()
"""DVC's own files about the project under test, which may lie where nothing can be written beside it."""


class Workspace:
    """A folder in which commands run as a user would run them in the activated environment."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _make_environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        home = Path(_HOME.name) if self.root == ROOT else self.root.parent / "home"
        environment = {**os.environ, "PATH": path, "DVC_SITE_CACHE_DIR": str(home), "CUDA_VISIBLE_DEVICES": ""}
        return environment | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def start(self, *command: str, output: IO[bytes]) -> "subprocess.Popen[bytes]":
        """Start a command in a session of its own; what it says goes to a file."""
        return subprocess.Popen(
            command, cwd=self.root, env=self._make_environment(), stdout=output, stderr=output, start_new_session=True
        )

    def run(self, *command: str, ok: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the workspace; with `ok`, fail loudly unless it exits with 0."""
        environment = self._make_environment() | env
        result = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        if ok and result.returncode:
            raise AssertionError(
                f"{' '.join(command)} exited with {result.returncode}:\n{result.stdout}\n{result.stderr}"
            )
        return result

    def executed(self, *arguments: str) -> set[str]:
        """Run `dvc repro` and return the names of the stages that ran a command."""
        output = self.run("dvc", "repro", *arguments).stdout
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")}

    def drive(self, *targets: str) -> set[str]:
        """The same with `pipeline run`, which takes a third of the time: its stages need not import torch."""
        logs = self.root / "logs"
        shutil.rmtree(logs, ignore_errors=True)
        self.run("python", "-m", "pipeline", "run", "--slots", "2", *targets)
        return {path.stem for path in logs.glob("*.txt")}

    def read(self, name: str) -> Any:
        """Parsed YAML of a file."""
        return YAML().load(self.root / name)

    def write(self, name: str, content: Any) -> None:
        """Write YAML to a file."""
        YAML().dump(content, self.root / name)


RESULTS = ("params.yaml", "dvc.lock", "curves", "ledger", "metrics", "records", "reports")
"""What a user's sweep changes: no test may count on what the workspace has of it at the moment."""


@cache
def check_out() -> Workspace:
    """The last commit, as a repository of its own; for reading."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    workspace = Workspace(Path(_HOME.name) / "commit")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(workspace.root, filter="data")
    commit_all(workspace)
    return workspace


def copy_settings(target: Path) -> Path:
    """Copy specs/ as it is here, and the panel of the last commit; returns the folder."""
    shutil.copytree(ROOT / "specs", target / "specs")
    shutil.copy(check_out().root / "params.yaml", target)
    return target


@cache
def find_settings() -> Path:
    """What `copy_settings` copies; for reading."""
    return copy_settings(Path(_HOME.name) / "settings")


def copy_project(target: Path) -> Workspace:
    """Copy what git would track, with the panel and the results of the last commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and Path(name).parts[0] not in RESULTS:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for name in RESULTS:
        path = check_out().root / name
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, target / name)
    return Workspace(target)


def copy_workspace(workspace: Workspace, target: Path) -> Workspace:
    """A copy with its repository, its results and DVC's cache."""
    return Workspace(shutil.copytree(workspace.root, target, symlinks=True))


BY_CLOCK = ("ledger/", "reports/index.html")
"""Outputs that say how long something took."""


def list_outputs(workspace: Workspace) -> dict[str, str]:
    """Every output with its hash, as dvc.lock has it, but those that say how long something took."""
    stages: dict[str, Any] = workspace.read("dvc.lock")["stages"]
    outputs = (out for stage in stages.values() for out in stage.get("outs", ()))
    return {str(out["path"]): str(out["md5"]) for out in outputs if not str(out["path"]).startswith(BY_CLOCK)}


def commit_all(workspace: Workspace) -> None:
    """Commit everything in the workspace, which becomes a repository with an identity of its own."""
    if not (workspace.root / ".git").exists():
        workspace.run("git", "init", "-q")
        for key, value in {"user.name": "test", "user.email": "test@example.org", "commit.gpgsign": "false"}.items():
            workspace.run("git", "config", key, value)
    workspace.run("git", "add", "-A")
    workspace.run("git", "commit", "-qm", "test")


def make_reduced(target: Path) -> Workspace:
    """A project whose digits take seconds: one or two arms a study, one seed, few steps; nothing cached."""
    workspace = copy_project(target)
    for name in RESULTS[1:]:
        path = target / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    params = workspace.read("params.yaml")
    params["compute"]["device"] = "cpu"
    for study, arm in {"node": "norm=batch", "ddpm": "position=mlp"}.items():
        params[study]["digits"] |= {"seeds": [0], "arms": ["baseline", arm], "more": {"seeds": [], "arms": []}}
    for study, cases in params["cases"].items():
        for case in cases if study not in ("node", "ddpm") else ():
            params[study][case] |= {"seeds": [0], "arms": ["baseline"], "more": {"seeds": [], "arms": []}}
    params["worth"]["gaussian"]["arms"] = ["baseline", "spectrum=digits"]
    workspace.write("params.yaml", params)
    node = workspace.read("specs/node/study.yaml")
    digits = node["cases"]["digits"]
    digits["network"] |= {"channels": 8, "stem_channels": 8, "groups": 4}
    digits["training"] |= {"epochs": 1, "batch_size": 256}
    workspace.write("specs/node/study.yaml", node)
    ddpm = workspace.read("specs/ddpm/study.yaml")
    digits = ddpm["cases"]["digits"]
    digits["network"] |= {"channels": 8, "groups": 4}
    digits["training"] |= {"steps": 6, "snapshot_every": 3}
    digits["sampling"] |= {"images": 40, "sets": 2, "first_snapshot": 3, "batch_size": 40, "steps": 3}
    digits["evaluation"] |= {"isc_splits": 2, "kid_subsets": 4, "kid_subset_size": 20}
    workspace.write("specs/ddpm/study.yaml", ddpm)
    theory = workspace.read("specs/theory/study.yaml")
    theory["base"]["design"] |= {"channels": 4}
    workspace.write("specs/theory/study.yaml", theory)
    worth = workspace.read("specs/worth/study.yaml")
    worth["base"]["data"] |= {"samples": 100}
    workspace.write("specs/worth/study.yaml", worth)
    timetest = workspace.read("specs/timetest/study.yaml")
    timetest["base"]["training"] |= {"steps": 20}
    timetest["cases"]["white_noise"]["training"] |= {"steps": 20}
    workspace.write("specs/timetest/study.yaml", timetest)
    edm2 = workspace.read("specs/edm2/study.yaml")
    edm2["base"]["averages"] |= {"averaged_steps": 64, "snapshots": 4, "values": 16}
    edm2["base"]["training"] |= {"steps": 20, "stored": 2}
    workspace.write("specs/edm2/study.yaml", edm2)
    schedules = workspace.read("specs/schedules/study.yaml")
    schedules["base"]["spin"] |= {"spins": 100}
    workspace.write("specs/schedules/study.yaml", schedules)
    phases = workspace.read("specs/phases/study.yaml")
    phases["cases"]["overlaps"]["training"] |= {"steps": 20}
    phases["cases"]["uturn"]["turn"] |= {"samples": 100}
    phases["cases"]["budget"]["training"] |= {"steps": 10}
    workspace.write("specs/phases/study.yaml", phases)
    data = workspace.read("specs/data.yaml")
    data["datasets"]["digits"]["extractor"] |= {"epochs": 1, "features": 8}
    workspace.write("specs/data.yaml", data)
    commit_all(workspace)
    return workspace
