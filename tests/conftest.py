"""What tests of several files share."""

import os
import shutil
from collections.abc import Iterator

import pytest
from filelock import FileLock
from workspace import Workspace, commit_all, find_settings, make_reduced

from pipeline.run.inputs import forget_inputs
from pipeline.schema.project import Project, load_project

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Torch reads it when it is first imported, which is later. With two threads, and something else on the cores, a small
training takes 30 times as long: its threads spin. Stages set their own number."""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """A command that a test runs in this process leaves checks of its inputs, which the next test must not meet."""
    yield
    forget_inputs()


@pytest.fixture(scope="session")
def project() -> Project:
    """The settings, with the panel of the last commit."""
    return load_project(find_settings())


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The reduced panel after one `pipeline run`, committed. Nobody changes it: take a copy (`copy_workspace`).

    It costs a minute of two cores, so the processes of a parallel run share one; the first that needs it makes it.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "calm"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            workspace = make_reduced(folder / "project")
            workspace.run("python", "-m", "pipeline", "run", "--slots", "2")
            commit_all(workspace)
            (folder / "made").touch()
    return Workspace(folder / "project")
