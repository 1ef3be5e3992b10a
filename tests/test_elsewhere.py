"""The same bytes in other circumstances. What another user makes in a container is compared in tests/test_image.py."""

import subprocess
from pathlib import Path

import pytest
from workspace import Workspace, list_outputs, make_reduced

pytestmark = pytest.mark.ci

BACKWARDS = ("evaluate_ddpm_digits@digits-position=mlp-0", "draw@figure6", "render@table1")
"""Targets in another order than DVC's own."""


def choose_locale() -> str:
    """One whose decimal point is a comma, or whose i has its dot, where the machine has it."""
    known = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.split()
    return next((name for name in known if name.lower().startswith(("tr_", "de_", "fr_"))), "POSIX")


def test_another_folder_zone_locale_hash_seed_order_of_stages_and_number_of_cores(calm: Workspace, tmp_path: Path):
    work = make_reduced(tmp_path / "größer, and with blanks" / "project")
    elsewhere = {
        "TZ": "Pacific/Kiritimati",  # 14 hours ahead
        "LC_ALL": choose_locale(),
        "PYTHONHASHSEED": "1",
        "OMP_NUM_THREADS": "2",  # the number of threads is compute.threads, whatever else says
        "MKL_NUM_THREADS": "2",
        "HOME": str(tmp_path),
        "USER": "somebody",
        "COLUMNS": "37",
    }
    for target in BACKWARDS:
        work.run("dvc", "repro", target, **elsewhere)
    found, expected = list_outputs(work), list_outputs(calm)
    assert {path.split("/")[0] for path in found} >= {"runs", "samples", "evaluations", "records", "reports"}
    assert found == {path: expected[path] for path in found}
