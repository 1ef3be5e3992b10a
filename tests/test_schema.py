"""Arms, merging, and the one line that a mistake ends in."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from problems import ROOT, resolve
from workspace import Workspace, copy_project, copy_settings, find_settings

from pipeline.plan.steps import check_steps
from pipeline.schema.arm import list_fields
from pipeline.schema.base import SpecError, read_yaml
from pipeline.schema.project import load_project
from pipeline.schema.study import find_study, load_study_spec, resolve_run
from pipeline.studies.ddpm.study import DdpmNetwork, Import


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return copy_project(tmp_path_factory.mktemp("schema"))


@pytest.fixture
def copy(tmp_path: Path) -> Workspace:
    return copy_project(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Workspace:
    """params.yaml and specs/ alone."""
    return Workspace(copy_settings(tmp_path))


def test_every_file_in_specs_is_loaded():
    project, specs = load_project(find_settings()), ROOT / "specs"
    assert list(project.specs) == project.report.studies
    assert set(project.specs) == {path.parent.name for path in specs.glob("*/study.yaml")}
    assert set(project.tables) == {path.stem for path in specs.glob("*/tables/*.yaml")}
    assert set(project.figures) == {path.stem for path in specs.glob("*/figures/*.yaml")}
    claims = {study: [claim.id for claim in file.claims] for study, file in project.claims.items()}
    assert claims["node"] == ["c1", "c2", "c3", "c4", "c6", "c6_all", "c7", "c8", "c9", "c10", "n1"]
    assert claims.keys() == {path.parent.name for path in specs.glob("*/claims.yaml")}
    read = {"study.yaml", "claims.yaml"}
    assert {path.name for path in specs.glob("*/*.yaml")} == read
    assert {path.name for path in specs.glob("*.yaml")} == {"data.yaml", "report.yaml"}


def test_the_papers_baseline_is_resolved_for_cifar():
    node = resolve("node", "cifar10", "baseline", 0)
    assert (node.network.channels, node.network.groups, node.network.activation_scope) == (256, 32, "all")
    assert (node.training.epochs, node.training.learning_rate, node.training.schedule) == (250, 0.1, "plateau")
    ddpm = resolve("ddpm", "cifar10", "baseline", 0)
    assert (ddpm.training.steps, ddpm.training.ema_decay, ddpm.network.zero_bias) == (1_300_000, 0.9999, "all")


def test_an_arm_overrides_the_dataset_and_the_dataset_the_base():
    baseline, arm = resolve("node").network, resolve("node", arm="position=linear,groups=1").network
    assert (arm.position, arm.groups) == ("linear", 1)
    assert arm.model_copy(update={"position": "none", "groups": baseline.groups}) == baseline
    assert baseline.channels != load_study_spec(ROOT, "node").base["network"]["channels"] == 256


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ("norm=group", "write 'baseline'"),
        ("zero_bias=conv,time=mlp", "write 'time=mlp,zero_bias=conv'"),
        ("groups=01", "write 'groups=1'"),
        ("norm=group,position=linear", "write 'position=linear'"),
        ("norm=grup", "'group', 'batch', 'instance' or 'layer'"),
        ("colour=red", "unknown field 'colour'; allowed: block, norm"),
        ("groups=3", "groups = 3 does not divide"),
        ("groups=0", "at least 1"),
        ("groups=1,groups=2", "given twice"),
        ("zero_bias=time", "needs an MLP (time or position)"),
        ("norm batch", "not field=value"),
        ("norm=batch;rm", "not field=value"),
        ("", "not field=value"),
        ("../../x", "not field=value"),
        ("rtol=nan", "rtol"),
        ("weight_std=0", "more than 0"),
        ("solver=bosh3", "needs implementation = 'torchdiffeq'"),
        ("norm_scope=ode", "needs a norm other than 'group'"),
        ("augment_channels=3", "groups = 4 does not divide 19 channels"),
        # Overrides that would train the baseline again under another name.
        ("position_init=ones", "position_init changes nothing without position=linear"),
        ("position=mlp,position_init=ones", "position_init changes nothing without position=linear"),
        ("batch_statistics=running", "changes nothing without norm=batch"),
        ("embedding_input=sinusoid", "changes nothing without time=mlp or position=mlp"),
        ("zero_bias_scope=all", "changes nothing without zero_bias=conv or zero_bias=all"),
        ("weight_std_time=true", "changes nothing without weight_std, and time=concat"),
        ("outer_groups=8", "changes nothing without groups_scope=ode"),
        ("adjoint_norm=seminorm", "changes nothing without gradient=adjoint"),
        ("block=none,position=linear", "position changes nothing: block=none has no ODE function"),
        ("position_mean=true", "position_mean changes nothing without position"),
    ],
)
def test_a_wrong_arm_is_refused_with_what_is_allowed(arm: str, says: str):
    with pytest.raises(SpecError, match=re.escape(says)):
        resolve("node", "digits", arm, 0)


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ("position=linear", "'none' or 'mlp'"),
        ("position_mean=true", "position_mean changes nothing without position=mlp"),
        ("position_init=zero", "position_init changes nothing without position=mlp"),
        ("position=mlp,position_input=level,position_bias=zero", "position_input other than level"),
        ("zero_bias=time,time_bias_scope=sites", "changes nothing without zero_bias=conv or zero_bias=none"),
        ("groups_scope=sites", "changes nothing without groups other than outer_groups, or a norm other than group"),
        ("groups=1,norm=batch", "groups changes nothing without norm=group"),
        ("zero_bias=conv,time=none", "zero_bias changes nothing without a timestep branch"),
        ("zero_bias=none,time_bias_scope=sites,time=none", "time_bias_scope changes nothing without"),
        ("norm=none", "'group', 'batch', 'instance' or 'layer'"),
        ("norm=batch,time=none", "write 'time=none,norm=batch'"),
        ("outer_groups=8", "changes nothing without groups_scope=sites"),
        ("groups=3,groups_scope=sites", "groups = 3 does not divide 8 channels"),
        ("groups=1,groups_scope=sites,outer_groups=32", "outer_groups = 32 does not divide 8 channels"),
        ("replicate=-1", "at least 0"),
        ("weights=../x", "not field=value"),
        ("weights=other", "not in specs/ddpm/study.yaml: imports; allowed: trained"),
        ("channels=18", "multiple of 4"),
    ],
)
def test_a_wrong_ddpm_arm_is_refused_with_what_is_allowed(arm: str, says: str):
    with pytest.raises(SpecError, match=re.escape(says)):
        resolve("ddpm", "digits", arm, 0)


def test_an_import_knows_no_training():
    study, spec, name = find_study("ddpm"), load_study_spec(ROOT, "ddpm"), "theirs-aaaaaaaaaaaa"
    spec = spec.model_copy(update={"imports": {name: Import(folder="x", sha256="a" * 64)}})
    run, _ = resolve_run(study, spec, "cifar10", f"up_attention=each,weights={name}", 0)
    assert run.network.weights == name
    for field in ("zero_bias=conv", "dropout=0.5", "replicate=1"):
        with pytest.raises(SpecError, match=f"{field.split('=')[0]} changes nothing: weights={name} is not trained"):
            resolve_run(study, spec, "cifar10", f"{field},weights={name}", 0)
    with pytest.raises(SpecError, match=r"steps changes nothing: weights=.* is not trained"):
        resolve_run(study, spec, "cifar10", f"weights={name},steps=5", 0)


def test_ddpm_groups_must_divide_the_widths_after_a_skip_too():
    # 384 channels, of a concatenation, are 3 x 128; the digits' 48 are 3 x 16.
    assert DdpmNetwork().norm_widths() == [128, 256, 384, 512]
    resolve("ddpm", "cifar10", "groups=128")
    with pytest.raises(SpecError, match="groups = 256 does not divide 128"):
        resolve("ddpm", "cifar10", "groups=256")


def test_yaml_numbers_are_read_as_dvc_reads_them(tmp_path: Path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 1e-3\nb: 1.0e-3\nc: yes\n")
    assert read_yaml(file) == {"a": 0.001, "b": 0.001, "c": "yes"}


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_an_experiment_changes_the_dataset_that_it_names_and_no_other(settings: Workspace, dataset: str):
    """With the function by which `dvc exp run -S` edits files; an alias would tie datasets together."""
    from dvc.utils.hydra import apply_overrides

    expected = read_specs(settings)
    for study, key in (("ddpm", "steps"), ("node", "epochs")):
        path = settings.root / "specs" / study / "study.yaml"
        apply_overrides(path, [f"cases.{dataset}.training.{key}=20"])
        expected[f"{study}/study"]["cases"][dataset]["training"][key] = 20
    apply_overrides(settings.root / "specs" / "data.yaml", [f"datasets.{dataset}.extractor.path=mine"])
    expected["data"]["datasets"][dataset]["extractor"]["path"] = "mine"
    assert read_specs(settings) == expected


def read_specs(workspace: Workspace) -> dict[str, Any]:
    names = ("data", "node/study", "ddpm/study")
    return {name: read_yaml(workspace.root / "specs" / f"{name}.yaml") for name in names}


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ("[baseline, position=linear,groups=1]", 'one arm needs quotes, "position=linear,groups=1"; two need a blank'),
        ("[norm=batch,groups=2, baseline]", 'one arm needs quotes, "norm=batch,groups=2"'),
        ("[baseline,groups=1,groups=2]", None),
        ("[baseline, position=linear, groups=1]", None),
        ("[position=linear,\n      groups=1]", None),
        ('[baseline,"position=linear,groups=1","groups=2"]', None),
        ("\n      - position=linear,groups=1\n      - groups=2", None),
    ],
)
def test_an_arm_that_its_comma_cuts_in_two_is_refused(settings: Workspace, arms: str, says: str | None):
    text = (settings.root / "params.yaml").read_text()
    old = "  cifar10: # the paper's scale, on a GPU: fill in the lists (copy the digits') and add cifar10 to `cases`\n"
    assert f"{old}    seeds: []\n    arms: []\n" in text
    changed = text.replace(f"{old}    seeds: []\n    arms: []\n", f"{old}    seeds: []\n    arms: {arms}\n", 1)
    (settings.root / "params.yaml").write_text(changed)
    if says is None:
        assert read_yaml(settings.root / "params.yaml")["node"]["cifar10"]["arms"]
    else:
        with pytest.raises(SpecError, match=rf"^params\.yaml: line \d+: .*{re.escape(says)}"):
            read_yaml(settings.root / "params.yaml")


def edit(workspace: Workspace, name: str, old: str, new: str) -> None:
    text = (workspace.root / name).read_text()
    assert old in text, f"{name} has no {old!r}"
    (workspace.root / name).write_text(text.replace(old, new, 1))


# File, text in it, its replacement, and what the one line must say, parts separated by `; `.
MISTAKES = [
    (
        "params.yaml",
        "      - norm=batch\n",
        "      - grups=2\n",
        "arms.1; 'grups' (did you mean 'groups'?); allowed: block",
    ),
    ("params.yaml", "      - norm=batch\n", "      - basline\n", "arms.1; (did you mean 'baseline'?)"),
    ("params.yaml", "      - norm=batch\n", "      - activation=SiLU\n", "arms.1; (did you mean 'silu'?); 'relu'"),
    ("params.yaml", "      - norm=batch\n", "      - norm: batch\n", "arms.1; field=value without blanks or a colon"),
    ("params.yaml", "      - norm=batch\n", "      - groups=two\n", "arms.1; 'two'; a whole number"),
    ("params.yaml", "gpus: all", "gpus: some", "resources.gpus = 'some'; 'all' or a whole number"),
    ("params.yaml", "seeds: [0, 1, 2, 3, 4]", "seeds: 0", "seeds = 0; a list"),
    ("params.yaml", "seeds: [0, 1, 2, 3, 4]", "seed: [0]", "unknown key seed (did you mean 'seeds'?)"),
    ("params.yaml", "node: # ", "nodes: # ", "unknown key nodes (did you mean 'node'?)"),
    (
        "params.yaml",
        "      - norm=batch\n",
        "      - norm=bach\n",
        "node.digits.arms.1; bach; 'group', 'batch', 'instance' or 'layer'",
    ),
    (
        "params.yaml",
        "      - norm=batch\n",
        "      - norm=batch\n      - norm=batch\n",
        "node.digits.arms; listed twice",
    ),
    ("params.yaml", "      - norm=batch\n", "      - norm=group\n", "node.digits.arms.1; write 'baseline'"),
    ("params.yaml", "      - norm=batch\n", "      - groups=5\n", "node.digits.arms.1; groups = 5 does not divide 16"),
    ("params.yaml", "threads: 1", "threads: two", "compute.threads; 'two'; a whole number"),
    (
        "params.yaml",
        "threads: 1",
        "threads: 1\n  treads: 3",
        "compute; treads; allowed: device, precision, tf32, compile, deterministic, portable, threads",
    ),
    ("params.yaml", "device: auto", "device: gpu", "compute.device; 'gpu'; 'auto', 'cpu' or 'cuda'"),
    ("params.yaml", "seeds: [0, 1, 2, 3, 4]", "seeds: [0, -1]", ".seeds.1; -1; at least 0"),
    ("params.yaml", "node: [digits]", "node: [digit]", "cases.node; 'digit'; digits, cifar10, cifar100"),
    ("params.yaml", "node: [digits]", "node: []", "node.digits.arms is not empty; cases.node lacks 'digits'"),
    (
        "params.yaml",
        "node: [digits]",
        "node: [digits, cifar10]",
        "node.cifar10.arms is empty; cases.node lists 'cifar10'",
    ),
    (
        "params.yaml",
        "cifar100:",
        "cifar1000:",
        "node; cifar1000; allowed: digits, cifar10, cifar100",
    ),
    ("params.yaml", "  threads: 1", "  threads: 1\n  threads: 3", "line; threads"),
    (
        "params.yaml",
        "theory: #",
        "theries: #",
        "theries; allowed: cases, compute, resources, ",
    ),
    ("params.yaml", "  theory: [features]", "", "cases.theory; required"),
    ("params.yaml", "theory: [features]", "theory: []", "theory.features.arms is not empty; cases.theory lacks"),
    (
        "params.yaml",
        "seeds: [0]\n      arms:\n        - time=none # control",
        "seeds: []\n      arms:\n        - time=none # control",
        "node.digits.more.seeds is empty",
    ),
    (
        "params.yaml",
        "- activation=silu #",
        "- norm=batch #",
        "node.digits.more.arms; 'norm=batch'; is in digits.arms too; once",
    ),
    (
        "params.yaml",
        "- activation=silu #",
        "- groups=5 #",
        "node.digits.more.arms.8; groups = 5 does not divide 16",
    ),
    ("params.yaml", "more: { seeds: [], arms: [] }", "more: { seeds: [] }", ".more.arms; required"),
    (
        "params.yaml",
        "      - norm=batch\n",
        "      - image_size=16\n",
        "node.digits.arms.1; unknown field 'image_size'; allowed: block, norm",
    ),
    (
        "specs/report.yaml",
        "columns: [accuracy,",
        "columns: [acuracy,",
        "terminal.columns: unknown key 'acuracy'; allowed: accuracy,",
    ),
    ("specs/report.yaml", "  table4: node\n", "", "tables; 'table4' is not there, so that nothing would show it"),
    ("specs/report.yaml", "  figure7: node\n", "", "figures; 'figure7' is not there"),
    ("specs/report.yaml", "  table4: node\n", "  table4: node\n  table9: node\n", "tables; unknown 'table9'; table1"),
    ("specs/report.yaml", "  - figure7\n", "", "order; 'figure7' is not there"),
    ("specs/report.yaml", "  - verdicts\n", "", "order; 'verdicts' is not there"),
    ("specs/report.yaml", "  - figure7\n", "  - figure7\n  - figure7\n", "order; 'figure7' is listed twice"),
    ("specs/report.yaml", "  - figure7\n", "  - figure7\n  - figure8\n", "order; unknown view 'figure8'; allowed"),
    ("specs/report.yaml", "front: [", "front: [table9, ", "front; unknown view 'table9'; table1"),
    ("specs/report.yaml", "  table3: ddpm", "  table3: node", "tables.table3; 'node'; one of the study 'ddpm'"),
    ("specs/report.yaml", "  level_awareness: ddpm", "  level_awareness: dpm", "texts.level_awareness; 'dpm'; ddpm"),
    ("specs/node/study.yaml", "base:\n  network:", "base:\n  netwrok:", "base.netwrok; allowed: network, training"),
    (
        "specs/node/study.yaml",
        "    training:\n",
        "    trianing:\n",
        "cases.digits.trianing; allowed: network, training",
    ),
    ("specs/ddpm/study.yaml", "    sampling:\n", "    smapling:\n", "cases.digits.smapling; sampling, evaluation"),
    (
        "specs/node/study.yaml",
        "    norm_scope: all\n",
        "    norm_scop: all\n",
        "base.network; unknown key norm_scop; allowed: block",
    ),
    ("specs/node/study.yaml", "headline: [accuracy", "headline: [acuracy", "headline; 'acuracy'; allowed: accuracy"),
    ("specs/node/study.yaml", "title:", "titel:", "titel; allowed: title, source"),
    ("specs/node/study.yaml", "  cifar100:\n", "  cifar1000:\n", "cases; unknown dataset 'cifar1000'; digits, cifar10"),
    ("specs/theory/study.yaml", "  features:", "  feature:", "cases; unknown case 'feature'; allowed: features"),
    ("specs/node/study.yaml", "dropout: 0.5", "dropout: 1.5", "base.network.dropout; 1.5; less than 1"),
    ("specs/node/study.yaml", "epochs: 250", "epochs: 2.5", "cases.cifar10.training.epochs; 2.5; a whole number"),
    ("specs/node/study.yaml", "stem_channels: 16", "stem_chanels: 16", "cases.digits.network; chanels; allowed: block"),
    ("specs/ddpm/study.yaml", "beta_max: 20.0", "beta_max: .inf", "base.diffusion.beta_max; inf; finite"),
    ("specs/ddpm/study.yaml", "image_size: 8", "image_size: 9", "image_size; 9; divisible by 2"),
    (
        "specs/data.yaml",
        "features: 64",
        "features: 500",
        "specs/ddpm/study.yaml: line; cases.digits.sampling.images; 400; at least 501",
    ),
    ("specs/ddpm/study.yaml", "images: 50000", "images: 2048", "cases.cifar10.sampling.images; 2048; at least 2049"),
    ("specs/ddpm/study.yaml", "kid_subset_size: 200", "kid_subset_size: 501", "kid_subset_size; 501; at most 400"),
    ("specs/ddpm/study.yaml", "batch_size: 32", "batch_size: 1438", "digits.training.batch_size; 1438; at most 1437"),
    ("specs/ddpm/study.yaml", "isc_splits: 10", "isc_splits: 401", "digits.evaluation.isc_splits; 401; at most 400"),
    ("specs/node/study.yaml", "hue: 0.0", "hue: 0.1", "digits.training.hue; 0.1; allowed is 0; 1 channels"),
    ("specs/node/study.yaml", "saturation: 0.0", "saturation: 0.1", "digits.training.saturation; 0.1; allowed is 0"),
    ("specs/node/study.yaml", "crop_padding: 0", "crop_padding: 12", "digits.training; crop_padding = 12; 0 to 11"),
    ("specs/data.yaml", "channels: 1", "channels: 3", "datasets.digits; channels = 3; 'digits' have 1"),
    ("specs/data.yaml", "classes: 10\n", "classes: 9\n", "datasets.digits; classes = 9; have 10"),
    ("specs/data.yaml", "classes: 100\n", "classes: 50\n", "datasets.cifar100; classes = 50; 'cifar' have 10 or 100"),
    ("specs/data.yaml", "train_images: 1437", "train_images: 1438", "digits; train_images = 1438; have 1437"),
    ("specs/data.yaml", "test_images: 10000", "test_images: 1", "cifar10; test_images = 1; have 10000"),
    ("specs/data.yaml", "test_fraction: 0.2", "test_fraction: 0.3", "digits; train_images = 1437; have 1257"),
    ("specs/data.yaml", "test_fraction: 0.2", "test_fraction: 0.001", "digits; source.test_fraction = 0.001"),
    ("specs/ddpm/study.yaml", "isc_splits: 10", "isc_splits: 1", "digits.evaluation.isc_splits; 1; at least 2"),
    ("specs/ddpm/study.yaml", "steps: 30\n", "steps: 1001\n", "digits.sampling.steps; 1001; allowed are 1 to 1000"),
    ("specs/ddpm/study.yaml", "sampler: ancestral", "sampler: ddm", "sampling.sampler; 'ddm'; 'ancestral' or 'ddim'"),
    (
        "specs/ddpm/study.yaml",
        "imports: {}",
        "imports: {x: {folder: x, sha256: " + "ab" * 32 + "}}",
        "imports.x; the name must end in -abababababab",
    ),
    ("specs/data.yaml", "path: null", "path: ''", "cifar10.extractor; path; at least 1 character"),
    ("params.yaml", "gpus: all", "gpus: 0", "resources.gpus; 0; 1"),
    ("params.yaml", "checkpoint_minutes: 5", "checkpoint_minutes: -1", "resources.checkpoint_minutes; -1; 0"),
    ("specs/data.yaml", "sha256: c4a3", "sha256: z4a3", "cifar10.source; sha256; z4a3"),
    ("specs/data.yaml", "size: 170052171", "size: 0", "cifar10.source; size; 0; at least 1"),
    ("specs/data.yaml", "file: cifar-10-", "file: ../cifar-10-", "cifar10.source; file; ../cifar-10-binary.tar.gz"),
    ("specs/data.yaml", "file: cifar-10-", "file: cifar-11-", "mirrors; 'cifar-11-binary.tar.gz' is not there"),
    ("specs/data.yaml", "  cifar-10-binary.tar.gz:\n", "  x: [y]\n  cifar-10-binary.tar.gz:\n", "no dataset needs 'x'"),
    ("specs/data.yaml", "    - https://www", "    - ftp://www", "mirrors.cifar-10-binary.tar.gz.0; ftp; https://HOST"),
    ("specs/data.yaml", "    - https://www", "    - https:///www", "mirrors.cifar-10-binary.tar.gz.0; https://HOST"),
    ("specs/data.yaml", "cs.toronto.edu/", "cs.toronto.edu:x/", "mirrors.cifar-10-binary.tar.gz.0; :x; Port"),
    ("specs/data.yaml", "    - https://www", "    - file://www", "mirrors.cifar-10-binary.tar.gz.0; file:///..."),
    (
        "specs/data.yaml",
        "    - https://www",
        '    - "\\x1b"\n    - https://www',
        "0; a character that cannot be printed",
    ),
    (
        "specs/data.yaml",
        "    - https://www",
        "    - ''\n    - https://www",
        "cifar-10-binary.tar.gz.0; at least 1 character",
    ),
    ("params.yaml", "strict: false", "strict: maybe", "resources.strict; 'maybe'; true or false"),
    ("specs/data.yaml", "kind: digits", "kind: digit", "digits.source; digit; 'digits', 'cifar', 'folder', 'npz'"),
    ("specs/node/tables/table1.yaml", "key: accuracy,", "key: acuracy,", "acuracy; allowed: accuracy"),
    ("specs/node/tables/table1.yaml", "key: accuracy_last,", "key: accuracy,", "columns; 'accuracy' has two columns"),
    ("specs/node/claims.yaml", "seeds: 5", "seeds: 1", "seeds = 1; at least 2"),
    ("specs/ddpm/study.yaml", "base:\n", "base: [\n", "line; not valid YAML"),
    ("specs/node/tables/table1.yaml", "arm: block=none", "arm: block=nine", "table1.yaml: line; rows; 'nine'; 'none'"),
    ("specs/node/claims.yaml", "arm: norm=batch", "arm: norm=bach", "claims.0.comparisons; 'norm=bach'; 'batch'"),
    (
        "specs/node/claims.yaml",
        "arm: norm=batch",
        "arm: nrom=batch",
        "claims.0.comparisons; unknown field 'nrom'; allowed",
    ),
    (
        "specs/node/claims.yaml",
        '"time=mlp,zero_bias=conv"',
        '"zero_bias=conv,time=mlp"',
        "claims.3.comparisons; the order of its fields is time, zero_bias",
    ),
    (
        "specs/node/claims.yaml",
        "key: accuracy,",
        "key: acuracy,",
        "claims.0.comparisons.0.key; 'acuracy'; allowed: accuracy",
    ),
    (
        "specs/node/claims.yaml",
        'direction: "<"',
        'direction: "="',
        "claims.0.comparisons.0; direction; '='; '<' or '>'",
    ),
    (
        "specs/node/claims.yaml",
        "kind: effect",
        "kind: efect",
        "claims.0.comparisons.0; efect; 'effect', 'equal', 'trend'",
    ),
    (
        "specs/node/claims.yaml",
        "reference: baseline",
        "reference: norm=batch",
        "arm and reference are both 'norm=batch'",
    ),
    ("specs/node/claims.yaml", ", value: 14.0", "", "claims.4.comparisons.0; equal needs either value or reference"),
    ("specs/node/claims.yaml", "up_to: 1.0", "up_to: 1000.0", "claims.8.comparisons.0; 1000; above = 100"),
    (
        "specs/node/claims.yaml",
        "table: table1",
        "table: table9",
        "claims.0.table; 'table9'; allowed: table1, table2, table4",
    ),
    (
        "specs/node/claims.yaml",
        "table: table1\n",
        "table: table1\n    cases: [cifar]\n",
        "claims.0: cases; 'cifar'; allowed: digits, cifar10",
    ),
    (
        "specs/node/claims.yaml",
        "table: table1\n",
        "table: table1\n    cases: [digits, digits]\n",
        "claims.0: cases; 'digits' is listed twice",
    ),
    (
        "specs/timetest/claims.yaml",
        "cases: [there_and_back]",
        "cases: [white_noise]",  # whose networks are of another kind
        "claims.0.comparisons; 'norm=batch,time=linear'; 'embedding' or 'none'",
    ),
    ("specs/node/claims.yaml", "table: table1", "table: table3", "claims.0.table; 'table3'; allowed: table1"),
    ("specs/node/claims.yaml", "id: c2", "id: c1", "id 'c1' is given twice"),
    (
        "specs/node/figures/figure6.yaml",
        "key: accuracy",
        "key: acuracy",
        "figure6.yaml; y.key; 'acuracy'; allowed: accuracy",
    ),
    (
        "specs/node/figures/figure7.yaml",
        "field: groups",
        "field: group",
        "x.field; unknown field 'group'; allowed: weight_std, groups",
    ),
    (
        "specs/worth/claims.yaml",
        "fixed: spectrum=natural",
        "fixed: size=2",
        "claims.1.comparisons.0; fixed = 'size=2'; 'size' varies",
    ),
    (
        "specs/worth/claims.yaml",
        "fixed: spectrum=natural",
        "fixed: spectrum=pink",
        "claims.1; 'pink'; 'white', 'natural'",
    ),
    ("specs/node/figures/figure7.yaml", "base: 2", "base: 3", "x.base; 3; 2 or 10"),
    (
        "specs/node/figures/figure7.yaml",
        "series: channels",
        "series: norms",
        "series; 'norms'; allowed: block, norm, norm_scope",
    ),
    ("specs/node/figures/figure7.yaml", "series:", "kind: pie\nseries:", "kind = 'pie'; allowed: sweep, arms"),
    ("specs/node/figures/figure7.yaml", "series:", "fixed: time=late\nseries:", "fixed: arm 'time=late'; 'concat'"),
    ("specs/node/figures/figure7.yaml", "series:", "fixed: groups=1\nseries:", "fixed = 'groups=1'; 'groups' varies"),
    (
        "specs/node/figures/figure7.yaml",
        "series:",
        "cases: [cifar]\nseries:",
        "cases; 'cifar'; allowed: digits, cifar10",
    ),
    (
        "specs/node/tables/table4.yaml",
        "columns:",
        "cases: [cifar]\ncolumns:",
        "cases; 'cifar'; allowed: digits, cifar10",
    ),
    ("specs/node/tables/table4.yaml", "columns:", "cases: []\ncolumns:", "cases; []; at least 1"),
    (
        "specs/node/figures/figure7.yaml",
        "digits: 2 }",
        "digits: 2, scale: log }\nline: { value: 0.0, label: none }",
        "line.value = 0; no place on a logarithmic axis",
    ),
    (
        "specs/node/figures/figure7.yaml",
        "series: channels",
        "kind: arms\nrows: [{ arm: group=1, label: one }]",
        "figure7.yaml; unknown key y; allowed: title, caption, cases, line, kind, rows, x",
    ),
    ("specs/node/figures/figure7.yaml", "series: channels", "serie: channels", "serie; allowed: title"),
]


def test_the_rows_of_a_figure_are_arms_that_could_be_and_its_key_a_number(settings: Workspace):
    figure = {"title": "t", "caption": "", "kind": "arms", "x": {"key": "nll", "label": "loss", "digits": 2}}
    for rows, key, says in (
        (["group=1"], "nll", ": rows: arm 'group=1': unknown field 'group' (did you mean 'groups'?); allowed: "),
        (["groups=1", "groups=1"], "nll", ": rows: the arm 'groups=1' has two rows"),
        (["groups=1"], "loss", ": x.key: unknown key 'loss'; allowed: "),
    ):
        given = {"rows": [{"arm": arm, "label": arm} for arm in rows], "x": {**figure["x"], "key": key}}  # type: ignore[dict-item]
        settings.write("specs/node/figures/figure7.yaml", {**figure, **given})
        with pytest.raises(SpecError, match=re.escape(says)):
            load_project(settings.root)


def test_the_line_is_that_of_the_mistake(settings: Workspace):
    lines = (settings.root / "params.yaml").read_text().splitlines()
    edit(settings, "params.yaml", "      - norm=batch\n", "      - norm=bach\n")
    with pytest.raises(SpecError) as caught:
        load_project(settings.root)
    node = next(index for index, line in enumerate(lines) if line.startswith("node:"))
    number = next(index for index in range(node, len(lines)) if lines[index].strip() == "- norm=batch") + 1
    assert str(caught.value).startswith(f"params.yaml: line {number}: node.digits.arms.1: ")


@pytest.mark.parametrize(("file", "old", "new", "says"), MISTAKES, ids=[f"{m[0]}:{m[2].strip()}" for m in MISTAKES])
def test_a_mistake_is_refused_in_one_line_with_its_number(
    settings: Workspace, file: str, old: str, new: str, says: str
):
    edit(settings, file, old, new)
    with pytest.raises(SpecError) as caught:
        load_project(settings.root)
    line = str(caught.value)
    assert re.match(r"(params|specs/[\w/]+)\.yaml: line \d+: ", line)
    assert "\n" not in line
    assert "Input should" not in line
    for part in ["" if "study.yaml:" in says else file, *says.split("; ")]:
        assert part in line, f"{part!r} is not in: {line}"


def test_inception_takes_images_of_three_channels(settings: Workspace):
    data = settings.read("specs/data.yaml")
    data["datasets"]["digits"]["extractor"] = dict(data["datasets"]["cifar10"]["extractor"])
    settings.write("specs/data.yaml", data)
    with pytest.raises(
        SpecError, match=r"data\.yaml: line \d+: datasets\.digits: .*takes images of 3 channels, these have 1"
    ):
        load_project(settings.root)


def test_there_are_enough_training_images_for_every_score(settings: Workspace):
    """However many are sampled."""
    ddpm, data = settings.read("specs/ddpm/study.yaml"), settings.read("specs/data.yaml")
    ddpm["cases"]["digits"]["sampling"]["images"] = 5000
    ddpm["cases"]["digits"]["evaluation"]["kid_subset_size"] = 1438
    settings.write("specs/ddpm/study.yaml", ddpm)
    with pytest.raises(SpecError, match="kid_subset_size = 1438: at most 1437 are allowed: the training images"):
        load_project(settings.root)
    ddpm["cases"]["digits"]["evaluation"]["kid_subset_size"] = 200
    settings.write("specs/ddpm/study.yaml", ddpm)
    data["datasets"]["digits"]["extractor"]["features"] = 1437
    settings.write("specs/data.yaml", data)
    with pytest.raises(SpecError, match=r"cases\.digits\.evaluation: the extractor's features = 1437 .* 2 to 1436"):
        load_project(settings.root)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "params.yaml: None: a mapping of keys is needed"),
        ("- a\n", "params.yaml: line 1: ['a']: a mapping of keys is needed"),
        ("a: *b\n", "params.yaml: line 1: the alias *b: "),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_in_one_line(copy: Workspace, content: str, says: str):
    (copy.root / "params.yaml").write_text(content)
    result = copy.run("python", "-m", "pipeline", "check", ok=False)
    assert result.returncode == 1
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_command_prints_the_line_and_no_traceback(copy: Workspace):
    edit(copy, "params.yaml", "device: auto", "device: gpu")
    result = copy.run("python", "-m", "pipeline", "check", ok=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: params.yaml: line 18: compute.device = 'gpu': ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("node", "digits", "groups=5"), "groups = 5 does not divide 16"),
        (("node", "mnist", "baseline"), "'mnist' is no case of node; there are digits, cifar10, cifar100"),
        (("ddpm", "digits", "baseline", "--seed", "-1"), "seed = -1: allowed: at least 0"),
    ],
)
def test_show_refuses_in_one_line(project: Workspace, arguments: tuple[str, ...], says: str):
    result = project.run("python", "-m", "pipeline", "show", *arguments, ok=False)
    assert result.returncode == 1
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_show_prints_a_run_with_its_parameters(project: Workspace):
    shown = json.loads(
        project.run("python", "-m", "pipeline", "show", "node", "cifar10", "norm=batch", "--json").stdout
    )
    assert shown["num_params"] == 2_023_562
    assert shown["network"]["norm"] == "batch"
    assert shown["training"]["epochs"] == 250
    assert (
        "network.position                 mlp"
        in project.run("python", "-m", "pipeline", "show", "ddpm", "digits", "position=mlp").stdout
    )


def test_check_lists_every_model_once(project: Workspace):
    lines = project.run("python", "-m", "pipeline", "check", "--list").stdout.splitlines()
    assert len(set(lines)) == len(lines)
    assert "node digits baseline seed 0" in lines
    assert lines[-1].endswith(f"{len(lines) - 1} runs")
    *cases, last = project.run("python", "-m", "pipeline", "check").stdout.splitlines()
    assert last == lines[-1]
    counts = {tuple(line.split()[:2]): int(line.split()[2]) for line in cases}
    assert counts["node", "digits"] == sum(line.startswith("node digits ") for line in lines)
    assert sum(counts.values()) == len(lines) - 1


def test_a_case_without_its_steps_is_refused_by_name(tmp_path: Path):
    """DVC would run nothing of it, and the report would say that its runs are missing."""
    project = load_project(ROOT)
    text = (ROOT / "dvc.yaml").read_text()
    for gone in ("evaluate_node_digits_more", "train_node_digits"):
        text = re.sub(rf"^  {gone}:.*?(?=^  \w+:)", "", text, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(SpecError, match="no stage evaluate_node_digits_more, train_node_digits; copy"):
        check_steps(tmp_path, project.panel)
    check_steps(ROOT, project.panel)


@pytest.mark.parametrize("study", ["node", "ddpm"])
def test_fields_lists_every_field_in_the_order_of_an_arm(study: str, project: Workspace):
    lines = project.run("python", "-m", "pipeline", "fields", study).stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(list_fields(find_study(study).run))
    if study == "node":
        assert "norm (network; group | batch | instance | layer; base: group; default: group)" in lines
        assert "weight_std (network; float or null, > 0, <= 1000000.0; base: null; default: null)" in lines
        assert "epochs (training; int, >= 1; base: 250; default: 250)" in lines
