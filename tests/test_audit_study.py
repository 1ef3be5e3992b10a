"""The study `audit`: what its records sum up, and packages that are not there."""

import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import torch
from problems import ROOT, resolve
from torch import Tensor, nn

from pipeline.audit.builtin import BUILT_IN, ConcatSquash, make_built_in
from pipeline.audit.examination import audit
from pipeline.audit.library import import_package
from pipeline.schema.base import SpecError
from pipeline.studies.audit.measure import compare_floats, measure_audit, summarise_audit
from pipeline.studies.audit.study import AuditRecord, Network
from pipeline.studies.audit.views import _LABELS

C = 8


def measure(network: str, time_scale: float = 1.0, seed: int = 0) -> AuditRecord:
    run = resolve("audit", "random_weights", seed=seed)
    audited = run.audited.model_copy(update={"network": network, "time_scale": time_scale})
    return measure_audit(run.model_copy(update={"audited": audited}))


def test_fields_networks_and_labels_have_the_same_names():
    assert list(BUILT_IN) == list(typing.get_args(Network)) == list(_LABELS)


def test_our_ode_function_loses_nothing_but_all_with_one_group_a_channel():
    built, by_channel = measure("node"), measure("node_by_channel")
    assert (built.sites, built.added, built.normed, built.cancelled) == (2, 2, 2, 0)
    assert built.survival is not None and 0.3 < built.survival < 1
    assert (built.survival_by_channel, built.offset_part, built.width) == (0, 1, 1)
    assert (by_channel.survival, by_channel.kept, by_channel.cancelled, by_channel.output_change) == (0, 0, 2, 0)


def test_a_record_is_the_same_for_the_same_seed_alone():
    one, two = measure("concat_squash"), measure("concat_squash", seed=1)
    assert one == measure("concat_squash")
    assert one.survival != two.survival


def test_gates_survive_norms_by_channel_as_far_as_channels_are_scaled_to_other_sizes():
    """ConcatSquash: the offset and the common scale of a channel are lost; eps alone leaves a trace."""
    torch.manual_seed(0)
    found = audit(ConcatSquash(C, C), {"x": torch.randn(2, C, 4, 4)}, times=[0, 1])
    assert found.sites[0].kind == "scale-shift"
    assert found.sites[0].survival is not None and found.sites[0].survival < 1e-2


class Modulated(nn.Module):
    """Scale and shift behind the last norm: nothing is lost."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.embed = nn.GroupNorm(2, C), nn.Linear(1, 2 * C)

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        scale, shift = self.embed(torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1))[..., None, None].chunk(2, 1)
        return self.norm(x) * (1 + scale) + shift


def test_a_site_that_no_norm_follows_keeps_all():
    record = summarise_audit(audit(Modulated(), torch.randn(2, C, 4, 4), times=[0, 1]), None)
    assert (record.normed, record.survival, record.kept, record.kept_by_channel) == (0, None, 1, 1)


class Truncated(Modulated):
    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        return super().forward(x, t if isinstance(t, Tensor) else float(int(t)))


class TakesTensors(Modulated):
    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        return super().forward(x, t.double())  # type: ignore[union-attr]


def test_floats_that_are_cut_to_whole_numbers_change_nothing():
    x = {"x": torch.randn(2, C, 4, 4)}
    assert compare_floats(Truncated(), x, "t") == 0
    assert (compare_floats(Modulated(), x, "t") or 0) > 0.01
    assert compare_floats(TakesTensors(), x, "t") is None


@pytest.mark.parametrize(("install", "said"), [(None, "no-such"), ("-r some.lock", "-r some.lock")])
def test_a_package_that_is_not_there_is_one_line(install: str | None, said: str):
    with pytest.raises(SpecError, match=f"package no-such is not installed: pip install {said}$"):
        import_package("no-such", "no_such.models", install)


@pytest.mark.slow
def test_what_must_hold_of_diffusers_networks():
    added, shifted, dit = measure("unet2d_small"), measure("unet2d_scale_shift"), measure("dit")
    assert added.offset_first == pytest.approx(1, abs=1e-9)
    assert (added.survival_by_channel, added.float_change) == (0, 0)
    assert (shifted.normed, shifted.kept) == (0, 1)
    assert dit.cancelled == 0 and (dit.survival_least or 0) > 0.5


MEASURE = """
from pathlib import Path

from pipeline.schema.project import load_project
from pipeline.studies.audit.measure import measure_audit

project = load_project(Path())
for arm in ("network=torchcfm", "network=torchcfm,time_scale=1000.0", "network=denoising_diffusion"):
    print(measure_audit(project.resolve("audit", "random_weights", arm, seed=0)).model_dump_json())
"""


@pytest.mark.ci
def test_the_networks_of_the_extra_audit(tmp_path: Path):
    """torchcfm resolves one direction of its times; the other is scaled and shifted."""
    lock, packages = str(ROOT / "requirements-audit.lock"), str(tmp_path / "packages")
    install = [
        "uv",
        "pip",
        "install",
        "--quiet",
        "--system-certs",
        "--no-deps",
        "--require-hashes",
        "--target",
        packages,
    ]
    subprocess.run([*install, "--requirement", lock], check=True)
    found = subprocess.run(
        [sys.executable, "-c", MEASURE],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), packages])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    records = [line for line in found.stdout.splitlines() if line.startswith("{")]  # torchcfm prints shapes
    unscaled, scaled, other = map(AuditRecord.model_validate_json, records)
    assert unscaled.rank is not None and unscaled.rank < 1.1
    assert scaled.rank is not None and scaled.rank > 20
    assert unscaled.added == unscaled.normed == unscaled.sites == 8 and unscaled.survival_by_channel == 0
    assert other.scaled > 0 and other.rank is not None


@pytest.mark.parametrize("name", ["node", "unet"])
def test_a_network_is_made_without_a_trace_in_torchs_generator(name: str):
    state = torch.get_rng_state()
    make_built_in(name, seed=3)
    assert torch.equal(state, torch.get_rng_state())
