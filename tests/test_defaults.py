"""Frozen defaults: a field that a run's file leaves out means today's default for ever."""

import json
from typing import Any

import pytest
from problems import ROOT, resolve
from pydantic import BaseModel, Field, create_model
from trainings import COMPUTE

from pipeline.schema.arm import list_fields, list_parts
from pipeline.schema.base import Strict, flatten
from pipeline.schema.compute import Compute
from pipeline.schema.project import Project
from pipeline.schema.resolved import describe_all, describe_run
from pipeline.schema.study import Study, find_study, list_studies
from pipeline.studies.node.study import NodeNetwork, NodeRun

GOLDEN = ROOT / "tests" / "golden" / "defaults.json"
"""Append only: a line for each field of each study's parts, and of `compute`."""


def list_defaults() -> dict[str, Any]:
    """Each default that a resolved file leaves out, as JSON has it, by study, part and field."""
    models = {f"{study}.{part}": model for study in list_studies(ROOT) for part, model in find_parts(study).items()}
    models["compute"] = Compute
    found = {}
    for name, model in models.items():
        for field, info in model.model_fields.items():
            if not info.is_required():
                found[f"{name}.{field}"] = json.loads(json.dumps(info.get_default(call_default_factory=True)))
    return found


def find_parts(study: str) -> dict[str, type[BaseModel]]:
    return find_study(study).list_parts()


def test_defaults_are_frozen():
    frozen, now = json.loads(GOLDEN.read_text()), list_defaults()
    advice = f"{GOLDEN.relative_to(ROOT)} is append only: runs that exist were made with what it says"
    for name, value in frozen.items():
        assert name in now, f"{name} is gone: {advice}"
        assert now[name] == value, f"{name} was {value!r}: {advice}"
    new = {name: value for name, value in now.items() if name not in frozen}
    assert not new, f"add to {GOLDEN.relative_to(ROOT)}, at the end: {json.dumps(new)}"


def test_a_study_may_be_made_of_name_run_record_and_measure_in_this_order():
    """The study `coin` of tests/test_growth.py, a template, is made so."""
    theory = find_study("theory")
    study = Study(theory.name, theory.run, theory.record, theory.measure, cases=theory.cases)
    assert (study.measure, study.others, study.list_models()) == (theory.measure, {}, [theory.run])


def test_every_field_of_a_part_has_a_default():
    """So that a field which comes later leaves the files of all runs as they are."""
    for study in list_studies(ROOT):
        for part, model in find_parts(study).items():
            required = [name for name, info in model.model_fields.items() if info.is_required()]
            assert not required, (study, part)


def test_a_resolved_file_leaves_out_what_is_the_default(project: Project):
    defaults = list_defaults()
    for run in project.runs():
        written = json.loads(describe_run(run, project.panel.compute))
        parts = {part: written["run"][part] for part in list_parts(type(run)) if part in written["run"]}
        for key, value in {**flatten({run.study: parts}), **flatten({"compute": written["compute"]})}.items():
            assert defaults[key] != value, (run.name, key)


def test_a_resolved_run_has_its_own_file(project: Project):
    paths = [path for path, _ in describe_all(project, lambda run: {})]
    assert len(set(paths)) == len(paths)
    content = json.loads(describe_run(resolve("node", arm="groups=1", seed=3), COMPUTE))
    assert (content["run"]["arm"], content["run"]["seed"], content["run"]["network"]["groups"]) == ("groups=1", 3, 1)


class GrownNetwork(NodeNetwork):
    """The network of a later version."""

    gate: bool = Field(False, description="new, and off as it was before")


class GrownRun(NodeRun):
    """Its run."""

    network: GrownNetwork


def grow(run: NodeRun, **fields: object) -> GrownRun:
    """A run of a later version, whose network has one field more."""
    return GrownRun.model_validate({**run.model_dump(), "network": {**run.network.model_dump(), **fields}})


def test_a_new_field_at_its_default_changes_no_resolved_file():
    for arm in ("baseline", "groups=1", "time=mlp,zero_bias=all"):
        run = resolve("node", arm=arm)
        assert describe_run(grow(run), COMPUTE) == describe_run(run, COMPUTE)
        assert describe_run(grow(run, gate=True), COMPUTE) != describe_run(run, COMPUTE)


def test_an_old_run_is_read_with_a_new_field_at_its_default():
    content = json.loads(describe_run(resolve("node"), COMPUTE))
    assert GrownRun.model_validate(content["run"]) == grow(resolve("node"), gate=False)


# ---- Arms ------------------------------------------------------------------------------------------------------------


class Left(Strict):
    width: int = Field(1)
    sizes: list[int] = Field(default_factory=list)


class Right(Strict):
    height: float | None = Field(None)


def make_run(**parts: type[BaseModel]) -> type[BaseModel]:
    fields: dict[str, Any] = {name: (model, ...) for name, model in parts.items()}
    return create_model("Run", **fields)


def test_the_fields_of_an_arm_are_the_parts_in_order_without_lists():
    fields = list_fields(make_run(left=Left, right=Right))
    assert {name: field.part for name, field in fields.items()} == {"width": "left", "height": "right"}


def test_two_parts_with_one_field_name_are_a_mistake_of_ours():
    with pytest.raises(AssertionError, match="width is a field of two parts"):
        list_fields(make_run(left=Left, more=Left))


def test_no_study_has_two_parts_with_one_field_name():
    for study in list_studies(ROOT):
        assert all(list_fields(model) for model in find_study(study).list_models())


# ---- Budgets are fields of an arm ------------------------------------------------------------------------------------


def get_budget(study: str, arm: str) -> dict[str, Any]:
    return resolve(study, arm=arm).training.model_dump()


@pytest.mark.parametrize(
    ("study", "arm", "field", "value"),
    [
        ("node", "learning_rate=0.05", "learning_rate", 0.05),
        ("node", "epochs=2", "epochs", 2),
        ("node", "batch_size=48", "batch_size", 48),
        ("node", "weight_decay=0.0", "weight_decay", 0.0),
        ("node", "schedule=plateau", "schedule", "plateau"),
        ("ddpm", "steps=10", "steps", 10),
        ("ddpm", "learning_rate=0.001", "learning_rate", 0.001),
        ("ddpm", "ema_decay=0.9", "ema_decay", 0.9),
    ],
)
def test_a_budget_is_swept_like_any_other_field(study: str, arm: str, field: str, value: object):
    baseline, swept = get_budget(study, "baseline"), get_budget(study, arm)
    assert swept == baseline | {field: value}
    assert swept != baseline
    assert resolve(study, arm=arm).network == resolve(study).network


@pytest.mark.parametrize("study", ["node", "ddpm"])
@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ("image_size=16", "unknown field 'image_size'; allowed: "),
        ("learning_rate=0", "more than 0"),
        ("batch_size=1.5", "a whole number"),
    ],
)
def test_a_wrong_budget_is_refused_in_one_line(study: str, arm: str, says: str):
    with pytest.raises(ValueError, match=says) as refused:
        resolve(study, arm=arm)
    assert "\n" not in str(refused.value)


def test_the_size_of_images_is_the_cases(project: Project):
    """One file of data serves all arms."""
    for study in ("node", "ddpm"):
        assert "image_size" not in list_fields(find_study(study).run)
        assert "image_size" in find_parts(study)["training"].model_fields


def test_an_arm_knows_its_overrides_and_its_one_name(project: Project):
    write = project.canonicalise
    arm = write("node", "digits", "epochs=2,weight_std=1,groups=1,norm=group")
    assert arm == str(arm) == "weight_std=1.0,groups=1,epochs=2"  # the schema's order, shortest spelling, no baseline's
    assert arm.overrides == {"weight_std": 1.0, "groups": 1, "epochs": 2}
    assert list(arm.overrides) == ["weight_std", "groups", "epochs"]
    assert write("node", "digits", "norm=group") == "baseline"
    assert write("node", "digits", "norm=group").overrides == {}
    groups = project.baseline("node", "digits").network.groups  # type: ignore[attr-defined]
    assert write("node", "digits", f"groups={groups}") == "baseline" != write("node", "cifar10", f"groups={groups}")
    assert project.arm("node", "digits", "groups=1").overrides == {"groups": 1}
    assert resolve("node", arm="groups=1").arm == "groups=1"
    with pytest.raises(ValueError, match=r"not canonical; write 'weight_std=1\.0'"):
        project.arm("node", "digits", "weight_std=1")
