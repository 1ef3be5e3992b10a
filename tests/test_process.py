"""The settings of a stage's process."""

import os
import signal
import subprocess
import sys
import time

import pytest
from problems import ROOT
from trainings import COMPUTE

from pipeline.run.process import count_seconds

CODE = """
import sys, torch
from pipeline.compute.device import choose_device
from pipeline.schema.compute import Compute
choose_device(Compute.model_validate_json(sys.argv[1]))
print(torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark, 'torch._inductor' in sys.modules)
x = torch.zeros(3).index_put((torch.tensor([0, 0]),), torch.ones(2), accumulate=True)
torch.nn.functional.max_unpool1d(x.reshape(1, 1, 3), torch.zeros(1, 1, 3, dtype=torch.int64), 2)  # not deterministic
"""


@pytest.mark.parametrize(
    ("deterministic", "printed"),
    [(True, "2 False False"), pytest.param(False, "0 True False", marks=pytest.mark.slow)],
)
def test_kernels_that_are_not_deterministic_are_refused_unless_asked_for(deterministic: bool, printed: str):
    compute = COMPUTE.model_copy(update={"deterministic": deterministic}).model_dump_json()
    result = subprocess.run(
        [sys.executable, "-c", CODE, compute], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stdout.split("\n")[0] == printed  # and torch's compiler, seconds of imports, is not loaded for it
    assert (result.returncode == 0) is not deterministic
    assert ("does not have a deterministic implementation" in result.stderr) is deterministic


def test_a_clock_that_is_set_back_changes_no_duration(monkeypatch: pytest.MonkeyPatch):
    before = count_seconds()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert before <= count_seconds() < before + 60


DEAF = """
import time
from pipeline.run.process import run_stage
def main():
    print("ready", flush=True)
    try:
        time.sleep(60)
    except BaseException:  # as somewhere in the import of torch
        print("went on", flush=True)
run_stage(main)
"""


def test_ctrl_c_ends_a_stage_whatever_swallows_exceptions():
    ready = {**os.environ, "DVC_STAGE": "check", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"import sys; sys.argv = ['stages/check.py']\n{DEAF}"]
    with subprocess.Popen(command, env=ready, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        said, error = process.communicate(timeout=30)
    assert (process.returncode, said, error) == (-signal.SIGINT, "", "")
