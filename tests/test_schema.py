"""Arms, merging, and the one line that a mistake ends in."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from workspace import ROOT, Workspace, copy_project, find_settings

from pipeline.schema.base import SpecError, read_yaml
from pipeline.schema.project import load_project
from pipeline.studies.ddpm.study import Import, load_ddpm_spec, resolve_ddpm_run
from pipeline.studies.node.study import load_node_spec, resolve_node_run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return copy_project(tmp_path_factory.mktemp("schema"))


@pytest.fixture
def copy(tmp_path: Path) -> Workspace:
    return copy_project(tmp_path)


def test_every_file_in_specs_is_loaded():
    project = load_project(find_settings())
    assert set(project.tables) == {path.stem for path in (ROOT / "specs" / "tables").glob("*.yaml")}
    assert set(project.figures) == {path.stem for path in (ROOT / "specs" / "figures").glob("*.yaml")}
    assert [claim.id for claim in project.claims] == [
        "c1",
        "c2",
        "c3",
        "c4",
        "c5",
        "c6",
        "c6_all",
        "c7",
        "c8",
        "c9",
        "c10",
    ]
    read = {"data.yaml", "node.yaml", "ddpm.yaml", "claims.yaml"}
    assert {path.name for path in (ROOT / "specs").glob("*.yaml")} == read


def test_the_papers_baseline_is_resolved_for_cifar():
    node = resolve("node", "cifar10", "baseline", 0)
    assert (node.network.channels, node.network.groups, node.network.activation_scope) == (256, 32, "all")
    assert (node.training.epochs, node.training.learning_rate, node.training.schedule) == (250, 0.1, "plateau")
    ddpm = resolve("ddpm", "cifar10", "baseline", 0)
    assert (ddpm.training.steps, ddpm.training.ema_decay, ddpm.network.zero_bias) == (1_300_000, 0.9999, "all")


def test_an_arm_overrides_the_dataset_and_the_dataset_the_base():
    spec = load_node_spec(ROOT)
    baseline = resolve_node_run(spec, "digits", "baseline", 0).network
    arm = resolve_node_run(spec, "digits", "position=linear,groups=1", 0).network
    assert (arm.position, arm.groups) == ("linear", 1)
    assert arm.model_copy(update={"position": "none", "groups": baseline.groups}) == baseline
    assert baseline.channels != spec.base.channels


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
        ("groups=0", "greater than or equal to 1"),
        ("groups=1,groups=2", "given twice"),
        ("zero_bias=time", "needs an MLP (time or position)"),
        ("norm batch", "not field=value"),
        ("norm=batch;rm", "not field=value"),
        ("", "not field=value"),
        ("../../x", "not field=value"),
        ("rtol=nan", "rtol"),
        ("weight_std=0", "greater than 0"),
        ("solver=bosh3", "needs implementation = 'torchdiffeq'"),
        ("norm_scope=ode", "needs a norm other than 'group'"),
        ("augment_channels=3", "groups = 16 does not divide 35 channels"),
        # Overrides that would train the baseline again under another name.
        ("position_init=ones", "position_init changes nothing without position=linear"),
        ("position=mlp,position_init=ones", "position_init changes nothing without position=linear"),
        ("batch_statistics=running", "changes nothing without norm=batch"),
        ("embedding_input=sinusoid", "changes nothing without time=mlp or position=mlp"),
        ("zero_bias_scope=all", "changes nothing without zero_bias=conv or zero_bias=all"),
        ("weight_std_time=true", "changes nothing without weight_std, and time=concat"),
        ("outer_groups=4", "changes nothing without groups_scope=ode"),
        ("adjoint_norm=seminorm", "changes nothing without gradient=adjoint"),
        ("block=none,position=linear", "position changes nothing: block=none has no ODE function"),
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
        ("groups_scope=sites", "changes nothing without groups other than outer_groups"),
        ("outer_groups=8", "changes nothing without groups_scope=sites"),
        ("groups=3,groups_scope=sites", "groups = 3 does not divide 16 channels"),
        ("groups=2,groups_scope=sites,outer_groups=32", "outer_groups = 32 does not divide 16 channels"),
        ("replicate=-1", "greater than or equal to 0"),
        ("weights=../x", "not field=value"),
        ("weights=other", "not in specs/ddpm.yaml: imports; allowed: trained"),
        ("channels=18", "multiple of 4"),
    ],
)
def test_a_wrong_ddpm_arm_is_refused_with_what_is_allowed(arm: str, says: str):
    with pytest.raises(SpecError, match=re.escape(says)):
        resolve("ddpm", "digits", arm, 0)


def test_an_import_knows_no_training():
    spec, name = load_ddpm_spec(ROOT), "theirs-aaaaaaaaaaaa"
    spec = spec.model_copy(update={"imports": {name: Import(folder="x", sha256="a" * 64)}})
    assert resolve_ddpm_run(spec, "cifar10", f"up_attention=each,weights={name}", 0).network.weights == name
    for field in ("zero_bias=conv", "dropout=0.5", "replicate=1"):
        with pytest.raises(SpecError, match=f"{field.split('=')[0]} changes nothing: weights={name} is not trained"):
            resolve_ddpm_run(spec, "cifar10", f"{field},weights={name}", 0)


def test_ddpm_groups_must_divide_the_widths_after_a_skip_too():
    # 384 channels, of a concatenation, are 3 x 128; the digits' 48 are 3 x 16.
    spec = load_ddpm_spec(ROOT)
    assert spec.base.network.norm_widths() == [128, 256, 384, 512]
    resolve_ddpm_run(spec, "cifar10", "groups=128", 0)
    with pytest.raises(SpecError, match="groups = 256 does not divide 128"):
        resolve_ddpm_run(spec, "cifar10", "groups=256", 0)


def test_yaml_numbers_are_read_as_dvc_reads_them(tmp_path: Path):
    file = tmp_path / "a.yaml"
    file.write_text("a: 1e-3\nb: 1.0e-3\nc: yes\n")
    assert read_yaml(file) == {"a": 0.001, "b": 0.001, "c": "yes"}


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_an_experiment_changes_the_dataset_that_it_names_and_no_other(copy: Workspace, dataset: str):
    """With the function by which `dvc exp run -S` edits files; an alias would tie datasets together."""
    from dvc.utils.hydra import apply_overrides

    expected = read_specs(copy)
    for study, key in (("ddpm", "steps"), ("node", "epochs")):
        apply_overrides(copy.root / "specs" / f"{study}.yaml", [f"datasets.{dataset}.training.{key}=20"])
        expected[study]["datasets"][dataset]["training"][key] = 20
    apply_overrides(copy.root / "specs" / "data.yaml", [f"datasets.{dataset}.extractor.path=mine"])
    expected["data"]["datasets"][dataset]["extractor"]["path"] = "mine"
    assert read_specs(copy) == expected


def read_specs(workspace: Workspace) -> dict[str, Any]:
    return {name: read_yaml(workspace.root / "specs" / f"{name}.yaml") for name in ("data", "node", "ddpm")}


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
def test_an_arm_that_its_comma_cuts_in_two_is_refused(copy: Workspace, arms: str, says: str | None):
    text = (copy.root / "params.yaml").read_text()
    (copy.root / "params.yaml").write_text(
        text.replace("  node: { seeds: [], arms: [] }", f"  node:\n    seeds: []\n    arms: {arms}", 1)
    )
    if says is None:
        assert read_yaml(copy.root / "params.yaml")["cifar10"]["node"]["arms"]
    else:
        with pytest.raises(SpecError, match=rf"^params\.yaml: line \d+: .*{re.escape(says)}"):
            read_yaml(copy.root / "params.yaml")


def edit(workspace: Workspace, name: str, old: str, new: str) -> None:
    text = (workspace.root / name).read_text()
    assert old in text, f"{name} has no {old!r}"
    (workspace.root / name).write_text(text.replace(old, new, 1))


# File, text in it, its replacement, and what the one line must say, parts separated by `; `.
MISTAKES = [
    (
        "params.yaml",
        "      - norm=batch\n",
        "      - norm=bach\n",
        "digits.node.arms.1; bach; 'group', 'batch', 'instance' or 'layer'",
    ),
    (
        "params.yaml",
        "      - norm=batch\n",
        "      - norm=batch\n      - norm=batch\n",
        "digits.node.arms; listed twice",
    ),
    ("params.yaml", "      - norm=batch\n", "      - norm=group\n", "digits.node.arms.1; write 'baseline'"),
    ("params.yaml", "      - norm=batch\n", "      - groups=5\n", "digits.node.arms.1; groups = 5 does not divide 32"),
    ("params.yaml", "threads: 1", "threads: two", "compute.threads; 'two'; integer"),
    (
        "params.yaml",
        "threads: 1",
        "threads: 1\n  treads: 3",
        "compute; treads; allowed: device, precision, tf32, compile, deterministic, portable, threads",
    ),
    ("params.yaml", "device: auto", "device: gpu", "compute.device; 'gpu'; 'auto', 'cpu' or 'cuda'"),
    ("params.yaml", "seeds: [0, 1]", "seeds: [0, -1]", "digits.node.seeds.1; -1; greater than or equal to 0"),
    ("params.yaml", "node: [digits]", "node: [digit]", "studies.node; 'digit'; digits, cifar10, cifar100"),
    ("params.yaml", "node: [digits]", "node: []", "digits.node.arms; studies.node lacks 'digits'"),
    ("params.yaml", "node: [digits]", "node: [digits, cifar10]", "cifar10.node.arms is empty; studies.node"),
    (
        "params.yaml",
        "cifar100:",
        "cifar1000:",
        "cifar1000; allowed: studies, compute, resources, digits, cifar10, cifar100",
    ),
    ("params.yaml", "  threads: 1", "  threads: 1\n  threads: 3", "line; threads"),
    ("specs/node.yaml", "  norm: group\n", "", "base.norm; required"),
    ("specs/node.yaml", "dropout: 0.5", "dropout: 1.5", "base.dropout; 1.5; less than 1"),
    ("specs/node.yaml", "epochs: 250", "epochs: 2.5", "datasets.cifar10.training.epochs; 2.5; integer"),
    ("specs/node.yaml", "stem_channels: 16", "stem_chanels: 16", "datasets.digits.network; chanels; allowed: block"),
    ("specs/ddpm.yaml", "beta_max: 20.0", "beta_max: .inf", "base.diffusion.beta_max; inf; finite"),
    ("specs/ddpm.yaml", "image_size: 8", "image_size: 9", "image_size; 9; divisible by 2"),
    (
        "specs/data.yaml",
        "features: 64",
        "features: 500",
        "ddpm.yaml: datasets.digits.sampling.images; 400; at least 501",
    ),
    ("specs/ddpm.yaml", "images: 50000", "images: 2048", "datasets.cifar10.sampling.images; 2048; at least 2049"),
    ("specs/ddpm.yaml", "kid_subset_size: 200", "kid_subset_size: 501", "kid_subset_size; 501; at most 400"),
    ("specs/ddpm.yaml", "batch_size: 128", "batch_size: 1438", "digits.training.batch_size; 1438; at most 1437"),
    ("specs/ddpm.yaml", "isc_splits: 10", "isc_splits: 401", "digits.evaluation.isc_splits; 401; at most 400"),
    ("specs/node.yaml", "hue: 0.0", "hue: 0.1", "digits.training.hue; 0.1; allowed is 0; 1 channels"),
    ("specs/node.yaml", "saturation: 0.0", "saturation: 0.1", "digits.training.saturation; 0.1; allowed is 0"),
    ("specs/node.yaml", "crop_padding: 0", "crop_padding: 12", "digits.training; crop_padding = 12; 0 to 11"),
    ("specs/data.yaml", "channels: 1", "channels: 3", "datasets.digits; channels = 3; 'digits' have 1"),
    ("specs/data.yaml", "classes: 10\n", "classes: 9\n", "datasets.digits; classes = 9; have 10"),
    ("specs/data.yaml", "classes: 100\n", "classes: 50\n", "datasets.cifar100; classes = 50; 'cifar' have 10 or 100"),
    ("specs/data.yaml", "train_images: 1437", "train_images: 1438", "digits; train_images = 1438; have 1437"),
    ("specs/data.yaml", "test_images: 10000", "test_images: 1", "cifar10; test_images = 1; have 10000"),
    ("specs/data.yaml", "test_fraction: 0.2", "test_fraction: 0.3", "digits; train_images = 1437; have 1257"),
    ("specs/data.yaml", "test_fraction: 0.2", "test_fraction: 0.001", "digits; source.test_fraction = 0.001"),
    ("specs/ddpm.yaml", "isc_splits: 10", "isc_splits: 1", "digits.evaluation.isc_splits; 1; equal to 2"),
    ("specs/ddpm.yaml", "steps: 40\n", "steps: 1001\n", "digits.sampling.steps; 1001; allowed are 1 to 1000"),
    ("specs/ddpm.yaml", "sampler: ancestral", "sampler: ddm", "sampling.sampler; 'ddm'; 'ancestral' or 'ddim'"),
    (
        "specs/ddpm.yaml",
        "imports: {}",
        "imports: {x: {folder: x, sha256: " + "ab" * 32 + "}}",
        "imports.x; the name must end in -abababababab",
    ),
    ("specs/data.yaml", "path: null", "path: ''", "cifar10.extractor; path; at least 1 character"),
    ("params.yaml", "gpus: all", "gpus: 0", "resources.gpus; 0; 1"),
    ("params.yaml", "checkpoint_minutes: 5", "checkpoint_minutes: -1", "resources.checkpoint_minutes; -1; 0"),
    ("specs/data.yaml", "sha256: c4a3", "sha256: z4a3", "cifar10.source; sha256; z4a3"),
    ("specs/data.yaml", "size: 170052171", "size: 0", "cifar10.source; size; 0; greater than or equal to 1"),
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
    ("params.yaml", "strict: false", "strict: maybe", "resources.strict; 'maybe'; boolean"),
    ("specs/data.yaml", "kind: digits", "kind: digit", "digits.source; digit; 'digits', 'cifar', 'folder', 'npz'"),
    ("specs/tables/table1.yaml", "key: accuracy,", "key: acuracy,", "acuracy; allowed: accuracy"),
    ("specs/tables/table1.yaml", "key: accuracy_last,", "key: accuracy,", "columns; 'accuracy' has two columns"),
    ("specs/claims.yaml", "seeds: 5", "seeds: 1", "seeds = 1; greater than or equal to 2"),
    ("specs/tables/table3.yaml", "study: ddpm", "study: dpm", "study; 'dpm'; 'node' or 'ddpm'"),
    ("specs/ddpm.yaml", "base:\n", "base: [\n", "ddpm.yaml; line; not valid YAML"),
    ("specs/tables/table1.yaml", "arm: block=none", "arm: block=nine", "table1.yaml: rows; 'nine'; 'none'"),
    ("specs/claims.yaml", "arm: norm=batch", "arm: norm=bach", "claims.0.comparisons; 'norm=bach'; 'batch'"),
    ("specs/claims.yaml", "arm: norm=batch", "arm: nrom=batch", "claims.0.comparisons; unknown field 'nrom'; allowed"),
    (
        "specs/claims.yaml",
        '"time=mlp,zero_bias=conv"',
        '"zero_bias=conv,time=mlp"',
        "claims.3.comparisons; the order of its fields is time, zero_bias",
    ),
    (
        "specs/claims.yaml",
        "key: accuracy,",
        "key: acuracy,",
        "claims.0.comparisons.0.key; 'acuracy'; allowed: accuracy",
    ),
    ("specs/claims.yaml", 'direction: "<"', 'direction: "="', "claims.0.comparisons.0; direction; '='; '<' or '>'"),
    ("specs/claims.yaml", "kind: effect", "kind: efect", "claims.0.comparisons.0; efect; 'effect', 'equal', 'trend'"),
    ("specs/claims.yaml", "reference: baseline", "reference: norm=batch", "arm and reference are both 'norm=batch'"),
    ("specs/claims.yaml", ", value: 14.0", "", "claims.5.comparisons.0; equal needs either value or reference"),
    ("specs/claims.yaml", "up_to: 1.0", "up_to: 1000.0", "claims.9.comparisons.0; 1000; above = 100"),
    (
        "specs/claims.yaml",
        "table: table1",
        "table: table9",
        "claims.0.table; 'table9'; allowed: table1, table2, table4",
    ),
    ("specs/claims.yaml", "table: table1", "table: table3", "claims.0.table; 'table3'; allowed: table1"),
    ("specs/claims.yaml", "id: c2", "id: c1", "id 'c1' is given twice"),
    ("specs/claims.yaml", "study: node", "study: ddpm", "claims.0"),
    (
        "specs/figures/figure6.yaml",
        "key: accuracy",
        "key: acuracy",
        "figure6.yaml; y.key; 'acuracy'; allowed: accuracy",
    ),
    ("specs/figures/figure7.yaml", "field: groups", "field: group", "x.field; 'group'; 'groups' or 'weight_std'"),
    ("specs/figures/figure7.yaml", "base: 2", "base: 3", "x.base; 3; 2 or 10"),
    ("specs/figures/figure7.yaml", "series: channels", "serie: channels", "serie; allowed: title, study"),
]


@pytest.mark.parametrize(("file", "old", "new", "says"), MISTAKES, ids=[f"{m[0]}:{m[2].strip()}" for m in MISTAKES])
def test_a_mistake_is_refused_in_one_line(copy: Workspace, file: str, old: str, new: str, says: str):
    edit(copy, file, old, new)
    with pytest.raises(SpecError) as caught:
        load_project(copy.root)
    line = str(caught.value)
    assert "\n" not in line
    for part in [file.removeprefix("specs/") if "ddpm.yaml:" not in says else "", *says.split("; ")]:
        assert part in line, f"{part!r} is not in: {line}"


def test_inception_takes_images_of_three_channels(copy: Workspace):
    data = copy.read("specs/data.yaml")
    data["datasets"]["digits"]["extractor"] = dict(data["datasets"]["cifar10"]["extractor"])
    copy.write("specs/data.yaml", data)
    with pytest.raises(SpecError, match=r"data\.yaml: datasets\.digits: .*takes images of 3 channels, these have 1"):
        load_project(copy.root)


def test_there_are_enough_training_images_for_every_score(copy: Workspace):
    """However many are sampled."""
    ddpm, data = copy.read("specs/ddpm.yaml"), copy.read("specs/data.yaml")
    ddpm["datasets"]["digits"]["sampling"]["images"] = 5000
    ddpm["datasets"]["digits"]["evaluation"]["kid_subset_size"] = 1438
    copy.write("specs/ddpm.yaml", ddpm)
    with pytest.raises(SpecError, match="kid_subset_size = 1438: at most 1437 are allowed: the training images"):
        load_project(copy.root)
    ddpm["datasets"]["digits"]["evaluation"]["kid_subset_size"] = 200
    copy.write("specs/ddpm.yaml", ddpm)
    data["datasets"]["digits"]["extractor"]["features"] = 1437
    copy.write("specs/data.yaml", data)
    with pytest.raises(SpecError, match=r"data\.yaml: datasets\.digits\.extractor\.features = 1437: .* 2 to 1436"):
        load_project(copy.root)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "params.yaml: None: a mapping of keys is needed"),
        ("- a\n", "params.yaml: ['a']: a mapping of keys is needed"),
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
    assert result.stderr.startswith("error: params.yaml: compute.device = 'gpu': ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("node", "digits", "groups=5"), "groups = 5 does not divide 32"),
        (("node", "mnist", "baseline"), "'mnist' is not there; known: digits, cifar10, cifar100"),
        (("ddpm", "digits", "baseline", "--seed", "-1"), "seed = -1: Input should be greater than or equal to 0"),
    ],
)
def test_show_refuses_in_one_line(project: Workspace, arguments: tuple[str, ...], says: str):
    result = project.run("python", "-m", "pipeline", "show", *arguments, ok=False)
    assert result.returncode == 1
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


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
    lines = project.run("python", "-m", "pipeline", "check").stdout.splitlines()
    assert len(set(lines)) == len(lines)
    assert "node digits baseline seed 0" in lines
    assert lines[-1].endswith(f"{len(lines) - 1} models")


@pytest.mark.parametrize("study", ["node", "ddpm"])
def test_fields_lists_every_field_in_the_order_of_an_arm(study: str, project: Workspace):
    spec = load_node_spec(ROOT).base if study == "node" else load_ddpm_spec(ROOT).base.network
    lines = project.run("python", "-m", "pipeline", "fields", study).stdout.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(type(spec).model_fields)
    if study == "node":
        assert "norm (group | batch | instance | layer; baseline: group)" in lines
        assert "weight_std (float or null, > 0, <= 1000000.0; baseline: null)" in lines
