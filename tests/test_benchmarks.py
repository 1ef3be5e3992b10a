"""The benchmarks compare equals: same evaluations, same gradients. Their speed is for them to say, not for a test."""

import json
from pathlib import Path

import pytest
from workspace import ROOT, Workspace


@pytest.mark.ci
def test_both_sides_of_a_node_step_do_the_same_work(tmp_path: Path):
    arguments = ["--case", "digits", "--threads", "1", "--steps", "2", "--json", str(tmp_path / "out.json")]
    Workspace(ROOT).run("python", "-m", "benchmarks.node_step", *arguments)
    results = json.loads((tmp_path / "out.json").read_text())
    assert list(results) == ["digits, adjoint", "digits, direct"]
    for name, result in results.items():
        plain, ours = result["nfe"]["plain"], result["nfe"]["ours"]
        assert plain[0] == ours[0], name
        assert ours[1] == (plain[1] if "adjoint" in name else 0)
        assert result["gradient_difference"] < 0.02, name
        assert result["ratio"] > 0


@pytest.mark.ci
def test_both_sides_of_a_diffusion_model_do_the_same_work(tmp_path: Path):
    arguments = ["--case", "digits", "--threads", "1", "--steps", "1", "--json", str(tmp_path / "out.json")]
    Workspace(ROOT).run("python", "-m", "benchmarks.ddpm_step", *arguments)
    results = json.loads((tmp_path / "out.json").read_text())
    assert list(results) == ["digits, training, batch 128, float32", "digits, sampling, batch 250, float32"]
    for name, result in results.items():
        plain, ours = result["loss"]["plain"], result["loss"]["ours"]
        assert plain == pytest.approx(ours, rel=1e-5), name
        share = result["flops"]["ours"] / result["flops"]["plain"]
        assert 0.85 < share <= 1, name  # upsampling takes four ninths of its multiplications
        assert result["ratio"] > 0
    assert results["digits, sampling, batch 250, float32"]["sample_difference"] < 1e-4
