"""Networks of other libraries, odd ones, and wrong input; the command line."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from problems import ddpm_network
from torch import Tensor, nn
from torch.nn import functional

from pipeline.__main__ import main
from pipeline.audit.audit_page import render_audit
from pipeline.audit.command import Options, parse_times, print_audit
from pipeline.audit.conclusion import conclude
from pipeline.audit.examination import audit
from pipeline.audit.findings import Audit
from pipeline.audit.target import load_target
from pipeline.run.outputs import write_weights
from pipeline.schema.base import SpecError
from pipeline.schema.compute import Compute
from pipeline.schema.resolved import describe_run

C = 4


def images(channels: int = C, size: int = 8, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))


def make_unet2d(**fields: Any) -> nn.Module:
    """A small one: two resolutions, attention at the second."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16), "layers_per_block": 1,
        "norm_num_groups": 4, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 8,
    }  # fmt: skip
    return UNet2DModel(**{**settings, **fields}).eval()


def make_dit() -> nn.Module:
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(0)
    network = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=1, out_channels=1, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=1000, norm_num_groups=1,
    )  # fmt: skip
    for value in network.parameters():  # gates are zero at first
        if not value.any():
            nn.init.normal_(value, std=0.02)
    return network.eval()


@pytest.mark.slow
def test_unet2d_adds_before_its_norms_and_its_first_change_is_one_offset():
    found = audit(make_unet2d(), images(1), times=[0, 250, 500, 999])
    assert [(site.kind, site.norm and (site.norm.kind, site.norm.groups)) for site in found.sites] == [
        ("added", ("group", 4))
    ] * 8
    assert found.sites[0].name == "down_blocks.0.resnets.0"
    assert all(site.offset_part == pytest.approx(1, abs=1e-9) for site in found.sites)
    assert all(site.survival_by_channel == 0 < site.survival < 1.5 for site in found.sites)
    assert found.output.zero is False


@pytest.mark.slow
def test_one_group_a_channel_loses_all_of_it():
    found = audit(make_unet2d(norm_num_groups=8, block_out_channels=(8, 8)), images(1), times=[0, 999])
    assert {site.survival for site in found.sites} == {0}
    assert any("nothing of it survives" in sentence.lower() for sentence in conclude(found))


@pytest.mark.slow
def test_scale_and_shift_behind_the_norm_are_not_cancelled():
    found = audit(make_unet2d(resnet_time_scale_shift="scale_shift"), images(1), times=[0, 999])
    assert {(site.kind, site.norm) for site in found.sites} == {("scale-shift", None)}
    assert found.least_survival is None


@pytest.mark.slow
def test_a_python_float_is_cut_to_a_whole_number():
    """diffusers#13654."""
    network, x = make_unet2d(), images(1)
    with torch.no_grad():
        assert torch.equal(network(x, 0.0).sample, network(x, 0.9).sample)
    embedding = audit(network, x, times=[0, 1]).embedding
    assert embedding is not None
    forms = {form.name: form for form in embedding.forms}
    assert (forms["Python float"].distinct, embedding.distinct) == (2, 101)
    assert "0 and 0.9 are the same" in forms["Python float"].note


@pytest.mark.slow
def test_no_site_of_dit_is_cancelled():
    found = audit(make_dit(), {"hidden_states": images(1), "class_labels": torch.zeros(2, dtype=torch.long)})
    assert (found.time, found.data) == ("timestep", ["hidden_states"])
    assert found.times == [0, 100, 200, 300, 400, 500, 599, 699, 799, 899, 999]
    assert {site.kind for site in found.sites} == {"scale-shift", "gate"}
    assert len(found.sites) == 9  # two blocks: each two modulations and two gates; the last modulation
    assert all(site.survival is None or site.survival > 0.5 for site in found.sites)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"groups": 8, "outer_groups": 8}])
def test_our_network_exported_has_the_numbers_of_level_awareness(fields: dict):
    """Theirs in their code, ours in ours: one definition."""
    from diffusers import UNet2DModel

    from pipeline.diffusers.config import write_config
    from pipeline.diffusers.weights import to_diffusers
    from pipeline.studies.ddpm.level_awareness import measure_level_awareness
    from pipeline.studies.ddpm.unet import UNet

    torch.manual_seed(0)
    network = ddpm_network(**fields)
    ours = UNet(network, 1, 8, 1000).eval()
    for value in ours.parameters():  # so that no layer is near zero
        nn.init.normal_(value, std=0.2)
    theirs = UNet2DModel.from_config(write_config(network, 1, 8)).eval()
    theirs.load_state_dict(to_diffusers(dict(ours.named_parameters()), network, 8))
    known = measure_level_awareness(ours.double(), images(1).double(), 500)
    found = audit(theirs, images(1), times=[0, *known.levels], at=500)
    assert len(found.sites) == len(known.block_share)
    assert [site.share for site in found.sites] == pytest.approx(known.block_share, abs=1e-6)
    assert [site.changes for site in found.sites] == [pytest.approx(row, abs=1e-6) for row in known.block_change]
    own = audit(ours, images(1), times=[0, *known.levels], at=500)
    assert [site.share for site in own.sites] == pytest.approx(known.block_share, abs=1e-6)


class FunctionalNorm(nn.Module):
    """Odd: its norm is arithmetic, and it is no module."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.embed = nn.Parameter(torch.randn(C, C, 3, 3)), nn.Parameter(torch.randn(C))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        h = functional.conv2d(x, self.weight, padding="same") + torch.outer(sigma.log(), self.embed)[..., None, None]
        std, mean = torch.std_mean(h, (2, 3), keepdim=True)
        return torch.tanh((h - mean) / (std + 1e-6))


class Keyword(nn.Module):
    """Odd: the time is a keyword among five inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.labels = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, C)), nn.Embedding(3, C)
        self.norm = nn.GroupNorm(2, C)

    def forward(self, image: Tensor, mask: Tensor, label: Tensor, *, phase: Tensor, strength: float = 1.0) -> Tensor:
        told = self.embed(phase[:, None]) + self.labels(label)
        return self.norm(image * mask + strength * told[:, :, None, None]).relu()


@dataclass
class Batch:
    x: Tensor
    cond: dict[str, Tensor]


class Nested(nn.Module):
    """Odd: the time is an entry of a dict within the input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm = nn.Linear(1, C), nn.InstanceNorm2d(C)

    def forward(self, batch: Batch | Tensor, cond: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        x, cond = (batch.x, batch.cond) if isinstance(batch, Batch) else (batch, cond)
        h = x + self.embed(cond["when"].view(-1, 1))[:, :, None, None]
        return {"flow": self.norm(h).relu()}


def test_three_odd_networks_need_at_most_two_options():
    first = audit(FunctionalNorm(), images())
    assert (first.time, first.times[0], first.sites[0].survival) == ("sigma", 0.01, 0)
    inputs = {"image": images(), "mask": torch.ones(2, 1, 8, 8), "label": torch.tensor([0, 1]), "strength": 2.0}
    second = audit(Keyword(), inputs, "phase", [0, 0.5, 1])
    assert (second.data, second.sites[0].kind) == (["image", "mask"], "added")
    assert second.sites[0].survival is not None and second.sites[0].survival > 0
    third = audit(Nested(), (images(), {"when": torch.zeros(2)}), "cond.when", [0, 1])
    assert (third.time, third.sites[0].survival) == ("cond.when", 0)
    fourth = audit(Nested(), (Batch(images(), {"when": torch.zeros(2)}),), "batch.cond.when", [0, 1])
    assert fourth.sites == third.sites


@pytest.mark.slow
def test_a_compiled_network_is_audited_as_what_it_is():
    network = Keyword()
    inputs = {"image": images(), "mask": torch.ones(2, 1, 8, 8), "label": torch.tensor([0, 1])}
    plain = audit(network, inputs, "phase", [0, 1])
    assert audit(torch.compile(network), inputs, "phase", [0, 1]) == plain
    network.compile()
    assert audit(network, inputs, "phase", [0, 1]) == plain
    assert network._compiled_call_impl is not None


class Uncopied(Nested):
    def __deepcopy__(self, memo: object) -> Any:
        raise TypeError("cannot copy a lock")


class Broken(Nested):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(x, {"when": t})["flow"] / 0 * 0


TOLD = {"cond": {"when": torch.zeros(2)}, "batch": images()}
WRONG = [
    (nn.Conv2d(C, C, 1), images(), None, [0, 1], "none of its arguments (input) has a name that says time"),
    (Keyword(), (images(),), "phaze", [0, 1], "no argument 'phaze' (did you mean 'phase'?)"),
    (Keyword(), (images(),), "7", [0, 1], "takes 5 arguments"),
    (Keyword(), (images(),), "phase", [0, 1], "missing a required argument: 'mask'"),
    (Nested(), TOLD, "cond.wen", [0, 1], "'cond' has no 'wen' (did you mean 'when'?)"),
    (Nested(), TOLD, "cond.when", [1, 1.0], "at least two different ones"),
    (Nested(), TOLD, "cond.when", [0, float("nan")], "finite numbers"),
    (Nested(), {**TOLD, "batch": images(3)}, "cond.when", [0, 1], "does not run on these inputs"),
    (Nested(), 3, "cond.when", [0, 1], "a tensor, a tuple or a dict is needed"),
    (nn.Linear(2, 2, device="meta"), torch.ones(1, 2), "input", [0, 1], "has no values (meta device"),
    (Uncopied(), TOLD, "cond.when", [0, 1], "cannot be copied: cannot copy a lock"),
    (Broken(), images(), "t", [0, 1], "not finite at time"),
    (torch.relu, images(), "t", [0, 1], "no torch.nn.Module"),
]


@pytest.mark.parametrize(("network", "inputs", "time", "times", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_input_is_one_line(network: Any, inputs: Any, time: str | None, times: list[float], message: str):
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        audit(network, inputs, time, times)
    assert "\n" not in str(caught.value)


def test_wrong_options_are_one_line():
    network, inputs = Nested(), {"batch": images(), "cond": {"when": torch.zeros(2)}}
    with pytest.raises(ValueError, match="channels = 7: at Nested a tensor has 4 axes"):
        audit(network, inputs, "cond.when", [0, 1], channels=7)
    with pytest.raises(SpecError, match=r"data = 'bach': no such input \(did you mean 'batch'\?\)"):
        audit(network, inputs, "cond.when", [0, 1], data=["bach"])


@pytest.mark.parametrize(("text", "times"), [("0:1:3", [0, 0.5, 1]), ("0,0.5,2", [0, 0.5, 2]), ("9:1:2", [9, 1])])
def test_times_are_read(text: str, times: list[float]):
    assert parse_times(text) == times


@pytest.mark.parametrize("text", ["0:1", "0:1:x", "a,b", "0:1:1", ""])
def test_times_that_are_none_are_refused(text: str):
    with pytest.raises(SpecError, match="--times"):
        parse_times(text)


FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm = nn.Linear(1, 4), nn.GroupNorm(4, 4)
    def forward(self, x, t):
        return self.norm(x + self.embed(t[:, None])[:, :, None, None]).relu()

def make():
    return Net(), {"x": torch.ones(2, 4, 3, 3).cumsum(2)}

def bare():
    return Net()

def fail():
    raise KeyError("weights\\nof another line")
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of the user's own, in which the command runs."""
    (tmp_path / "own_networks.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pipeline", "audit", *words])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_prints_a_table_and_writes_page_and_numbers(
    factories: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    words = ("own_networks:make", "--html", "out/page.html", "--json", "out/audit.json")
    assert run(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    assert "the time is 't', by its name" in printed
    assert "Time enters at 1 site by addition before group normalisation." in printed
    assert "Nothing of it survives" in printed
    found = Audit.model_validate_json((factories / "out" / "audit.json").read_text())
    assert found.sites[0].survival == 0
    page = (factories / "out" / "page.html").read_text()
    assert "Does Net know what time it is?" in page and "http" not in page.replace("http-equiv", "")
    assert json.loads((factories / "out" / "audit.json").read_text())["behaviour"] is None


@pytest.mark.parametrize(("limit", "status"), [("0", 0), ("0.05", 1)])
def test_the_exit_status_says_whether_too_little_survives(
    factories: Path, monkeypatch: pytest.MonkeyPatch, limit: str, status: int
):
    assert run(monkeypatch, "own_networks:make", "--fail-below", limit, "--times", "0,1") == status


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("unet3d", "'unet3d' names no network (did you mean 'unet2d'?)"),
        ("no_such:make", "no_such:make: there is no module 'no_such'"),
        ("own_networks:mak", "own_networks has no 'mak' (did you mean 'make'?)"),
        ("own_networks:bare", "no example inputs are known of it; let the factory return"),
        ("own_networks:fail", "own_networks:fail: KeyError: "),
        ("diffusers:nowhere", "config.json: not there"),
        ("runs/ddpm/digits/none/0", "run.json: not there"),
    ],
)
def test_a_wrong_target_is_one_line(factories: Path, target: str, message: str):
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        print_audit(factories, target, Options())
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_saved_model_is_loaded_without_pickle(tmp_path: Path):
    make_unet2d().save_pretrained(tmp_path / "model" / "unet")
    target = load_target(tmp_path, "diffusers:model")
    assert target.inputs["sample"].shape == (2, 1, 8, 8)
    assert audit(target.network, target.inputs, times=[0, 999]) == audit(make_unet2d(), target.inputs, times=[0, 999])
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(SpecError, match="pickles, which could run any code, are not read"):
        load_target(tmp_path, "diffusers:model")


@pytest.mark.slow
def test_runs_of_ours_are_loaded(tmp_path: Path):
    from problems import resolve

    from pipeline.studies.ddpm.unet import make_unet
    from pipeline.studies.node.network import NodeClassifier

    ddpm, node = resolve("ddpm"), resolve("node")
    for run, name, network in (
        (ddpm, "ema-0000001.safetensors", make_unet(ddpm, 1)),
        (node, "best.safetensors", NodeClassifier(node.network, 1, node.training.image_size, 10)),
    ):
        folder = tmp_path / "runs" / run.name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(describe_run(run, Compute()))
        write_weights(folder / name, network.state_dict())
    unet = load_target(tmp_path, f"runs/{ddpm.name}")
    assert len(audit(unet.network, unet.inputs).sites) == 8
    field = load_target(tmp_path, f"runs/{node.name}")
    found = audit(field.network, field.inputs)
    assert (found.time, found.times[-1], len(found.sites)) == ("t", 1, 2)
    assert all(site.norm is not None for site in found.sites)


def test_names_on_the_page_are_text():
    found = audit(Nested(), {"batch": images(), "cond": {"when": torch.zeros(2)}}, "cond.when", [0, 1])
    site = found.sites[0].model_copy(update={"name": "<script>alert(1)</script>"})
    page = render_audit(found.model_copy(update={"sites": [site], "notes": ["<b>"]}))
    assert "<script>" not in page and "&lt;script&gt;" in page and "<b>" not in page
