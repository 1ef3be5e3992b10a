"""Golden traces, by which `keep` proves that an edit of numerics changes no arm."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from problems import later
from pydantic import Field
from torch import nn
from trainings import COMPUTE, ddpm_run, make_checkpoint, node_run, stripes, train_ddpm_run, train_node_run

from pipeline.plan.keep import find_differing
from pipeline.run.outputs import read_trace
from pipeline.run.workers import Worker
from pipeline.schema.base import SpecError
from pipeline.studies.ddpm.sampler import sample_ddpm
from pipeline.studies.ddpm.sampling_trace import trace_sampling
from pipeline.studies.ddpm.study import DdpmNetwork, DdpmRun
from pipeline.studies.ddpm.trace import trace_training
from pipeline.studies.ddpm.trainer import DdpmTrainer
from pipeline.studies.node.study import NodeNetwork, NodeRun
from pipeline.studies.node.trace import trace_node
from pipeline.studies.node.trainer import NodeTrainer


def small_node(seed: int = 0, **fields: object) -> NodeRun:
    run = node_run(seed)
    return run.model_copy(update={"network": run.network.model_copy(update=fields)})


def plan(**fields: object) -> Any:
    base = {"images": 4, "sets": 1, "first_snapshot": None, "batch_size": 4, "steps": 2}
    return later("digits", "sampling").model_copy(update={**base, **fields})


TRACES: dict[str, Callable[..., str]] = {
    "node": lambda seed=0, **fields: trace_node(small_node(seed, **fields)),
    "training": lambda seed=0, **fields: trace_training(ddpm_run(seed, fields)),
    "sampling": lambda seed=0, **fields: trace_sampling(ddpm_run(seed, fields), plan()),
}


@pytest.mark.parametrize("name", list(TRACES))
def test_a_trace_is_the_same_twice_and_another_of_another_run(name: str):
    trace = TRACES[name]
    assert trace() == trace()
    assert len({trace(), trace(1), trace(groups=1)}) == 3


def test_a_trace_of_sampling_is_of_its_settings_but_for_their_number():
    run = ddpm_run()
    assert trace_sampling(run, plan(images=400, steps=40)) == trace_sampling(run, plan())
    others = {"sampler": "ddim", "labels": "integer", "quantisation": "round", "clip": True, "variance": "large"}
    traces = {key: trace_sampling(run, plan(**{key: value})) for key, value in others.items()}
    assert len({trace_sampling(run, plan()), *traces.values()}) == 1 + len(others), traces


def test_a_run_that_fails_has_a_trace():
    assert "max_steps" in trace_node(small_node(max_steps=2))


def make_tanh(_: str) -> nn.Module:
    return nn.Tanh()


def bend(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return torch.tanh(x)


def test_a_trace_tells_numerics_that_were_edited(monkeypatch: pytest.MonkeyPatch):
    before = {name: trace() for name, trace in TRACES.items()}
    monkeypatch.setattr("pipeline.studies.node.network.make_activation", make_tanh)
    monkeypatch.setattr(nn.functional, "silu", bend)
    for name, trace in TRACES.items():
        assert trace() != before[name], name


class GrownNodeNetwork(NodeNetwork):
    """Of a later version."""

    gate: bool = Field(False)


class GrownNodeRun(NodeRun):
    """Of a later version."""

    network: GrownNodeNetwork


class GrownDdpmNetwork(DdpmNetwork):
    """Of a later version."""

    gate: bool = Field(False)


class GrownDdpmRun(DdpmRun):
    """Of a later version."""

    network: GrownDdpmNetwork


def test_a_new_field_at_its_default_leaves_every_trace():
    node, ddpm = node_run(), ddpm_run()
    assert trace_node(GrownNodeRun.model_validate(node.model_dump())) == trace_node(node)
    grown = GrownDdpmRun.model_validate(ddpm.model_dump())
    assert trace_training(grown) == trace_training(ddpm)
    assert trace_sampling(grown, plan()) == trace_sampling(ddpm, plan())


# ---- A trace in the middle of something else -------------------------------------------------------------------------


def train_node_steps(between: Callable[[], object]) -> dict[str, torch.Tensor]:
    trainer = NodeTrainer(small_node(dropout=0.5), stripes(48, 14), COMPUTE, "cpu")
    tally = trainer.begin_epoch()
    for step, batch in zip(range(2), trainer.order(1), strict=False):
        trainer.step(step, batch, tally)
        between()
    return trainer.list_state()


def train_ddpm_steps(between: Callable[[], object]) -> dict[str, torch.Tensor]:
    trainer = DdpmTrainer(ddpm_run(fields={"dropout": 0.5}), stripes(20, 8), COMPUTE, "cpu")
    for step, batch in zip(range(2), trainer.order(0).split(8), strict=False):
        trainer.step(step, batch)
        between()
    return trainer.list_state()


@pytest.mark.parametrize("train", [train_node_steps, train_ddpm_steps])
@pytest.mark.parametrize("name", list(TRACES))
def test_a_training_does_not_notice_a_trace(train: Callable[..., dict[str, torch.Tensor]], name: str):
    plain, traced = train(lambda: None), train(TRACES[name])
    assert plain.keys() == traced.keys()
    assert all(torch.equal(value, traced[key]) for key, value in plain.items())


def test_a_trace_does_not_depend_on_what_was_drawn_before():
    for name, trace in TRACES.items():
        torch.manual_seed(1)
        before = trace()
        torch.manual_seed(2)
        torch.randn(7)
        assert trace() == before, name


# ---- keep ------------------------------------------------------------------------------------------------------------


def test_keep_finds_the_arms_whose_traces_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = node_run()
    with pytest.raises(
        SpecError, match=r"^runs/node/digits/baseline/0: not there: nothing to compare with; `dvc pull`"
    ):
        find_differing(tmp_path, "node", [run])
    folder = tmp_path / "runs" / run.name
    assert train_node_run(run, folder) is None
    assert read_trace(folder / "trace.json") == trace_node(run)
    assert find_differing(tmp_path, "node", [run]) == []
    monkeypatch.setattr("pipeline.studies.node.network.make_activation", make_tanh)
    assert find_differing(tmp_path, "node", [run]) == ["digits baseline: training"]


def test_keep_tells_training_and_sampling_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = ddpm_run()
    folder, out = tmp_path / "runs" / run.name, tmp_path / "samples" / run.name
    assert train_ddpm_run(run, folder) is None
    checkpoints, trace = [make_checkpoint(tmp_path / "work")], trace_sampling(run, plan())
    sample_ddpm(run, folder, plan(), COMPUTE, "cpu", out, checkpoints, Worker(), trace)
    assert find_differing(tmp_path, "ddpm", [run]) == []
    monkeypatch.setattr("pipeline.studies.ddpm.sampler.quantise_images", lambda x, _: (x * 0).to(torch.uint8))
    assert find_differing(tmp_path, "ddpm", [run]) == ["digits position=mlp: sampling"]
