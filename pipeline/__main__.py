"""python -m pipeline: look at what params.yaml and specs/ say, before anything runs and after."""

import json
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from pipeline.command_line import parse
from pipeline.compute.device import check_compute
from pipeline.compute.threads import tune_process
from pipeline.plan.steps import check_steps
from pipeline.run.inputs import read_inputs
from pipeline.run.machine import check_links
from pipeline.run.process import run_stage
from pipeline.schema.arm import list_fields
from pipeline.schema.base import SpecError, flatten
from pipeline.schema.compute import load_compute
from pipeline.schema.mistakes import find_meant
from pipeline.schema.project import Project, load_project

ROOT = Path()


def require_known(kind: str, name: str, known: Collection[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        SpecError: with the nearest name, and all of them.
    """
    if name not in known:
        raise SpecError(f"{name!r} is no {kind}{find_meant(name, known)}; there are {', '.join(known)}")


def check(
    *,
    list_: Annotated[bool, "list the runs"] = False,
    quiet: Annotated[bool, "print nothing but errors"] = False,
) -> None:
    """Validate params.yaml and specs/; say how many runs they ask for."""
    project = read_inputs(lambda: load_project(ROOT))
    check_steps(ROOT, project.panel)
    check_links(ROOT)
    check_compute(project.panel.compute)
    runs = project.runs()
    if quiet:
        return
    if list_:
        for run in runs:
            print(f"{run.study} {run.case} {run.arm} seed {run.seed}")
    else:
        for (study, case), count in Counter((run.study, run.case) for run in runs).items():
            arms = len(project.panel.grid(study, case).seeds_by_arm())
            print(f"{study:9} {case:14} {count:4} runs of {arms} arms")
    print(f"params.yaml and specs/ are valid: {len(runs)} runs")


def describe_run(project: Project, study: str, case: str, arm: str, seed: int) -> dict[str, Any]:
    """One run, fully resolved: its settings, those of the stages after the training, its network's parameters."""
    require_known("study", study, project.specs)
    require_known(f"case of {study}", case, project.specs[study].cases)
    run = project.resolve(study, case, arm, seed)
    content = run.model_dump() | {name: part.model_dump() for name, part in project.later(study, case).items()}
    costs: Any = import_module(name) if (name := project.study(study).costs) else None
    if hasattr(costs, "count_params"):
        content["num_params"] = costs.count_params(project, run)
    return content


def show(
    study: Annotated[str, "a folder of specs/"],
    case: Annotated[str, "what the study runs on"],
    arm: Annotated[str, "baseline, or field=value[,field=value]"],
    *,
    seed: Annotated[int, "0 if not given"] = 0,
    json_: Annotated[bool, "for machines"] = False,
) -> None:
    """Print every setting of one run."""
    content = describe_run(load_project(ROOT), study, case, arm, seed)
    if json_:
        print(json.dumps(content, indent=2))
        return
    for key, value in flatten(content).items():
        print(f"{key:32} {value}")


def describe_values(field: FieldInfo) -> str:
    """What a field may be: `a | b`, or a type with its bounds."""
    options = get_args(field.annotation)
    if get_origin(field.annotation) is Literal:
        return " | ".join(map(str, options))
    name = " or ".join("null" if kind is type(None) else kind.__name__ for kind in options or (field.annotation,))
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{sign} {getattr(rule, key)}" for rule in field.metadata for key, sign in signs.items() if hasattr(rule, key)
    ]
    return ", ".join([name, *bounds])


def fields(study: Annotated[str, "a folder of specs/"]) -> None:
    """List what an arm of a study may change."""
    project = load_project(ROOT)
    require_known("study", study, project.specs)
    base = project.specs[study].base
    for name, field in list_fields(project.study(study).run).items():
        default = "none" if field.info.is_required() else json.dumps(field.info.default)
        value = json.dumps(base[field.part][name]) if name in base.get(field.part, {}) else default
        facts = f"{field.part}; {describe_values(field.info)}; base: {value}; default: {default}"
        print(f"{name} ({facts})".replace('"', ""))
        print(textwrap.fill(field.info.description or "", 110, initial_indent="    ", subsequent_indent="    "))


# What these need is imported by name: `check`, which make and the image start first, needs neither torch nor a report.


def plan(*, json_: Annotated[bool, "for machines"] = False) -> None:
    """What would be computed, and how long it takes here."""
    import_module("pipeline.plan.text").print_plan(ROOT, json_)


def run(
    target: Annotated[list[str], "stages of dvc.yaml; all of them if none is named"],
    *,
    slots: Annotated[int | None, "stages at once on the CPU; physical cores / compute.threads if not given"] = None,
    gpus: Annotated[str | None, "ids of the GPUs to use, with commas; all of them if not given"] = None,
    ray: Annotated[str | None, "run heavy stages on this Ray cluster: HOST:PORT, or auto"] = None,
    slurm: Annotated[bool, "run heavy stages as jobs of Slurm"] = False,
    slurm_options: Annotated[str | None, "of the jobs: KEY=VALUE, with commas, as partition=gpu,time=240"] = None,
    dry_run: Annotated[bool, "say what would run, and why; run nothing"] = False,
) -> None:
    """Run what is new, steps side by side; else the same as `dvc repro`."""
    if slots is not None and slots < 1:
        raise SpecError(f"--slots = {slots}: at least 1")
    if (ray is not None and slurm) or (gpus is not None and (ray is not None or slurm)):
        raise SpecError("--ray, --slurm, --gpus: one of them; a cluster hands out its own GPUs")
    if slurm_options is not None and not slurm:
        raise SpecError("--slurm-options: only with --slurm")
    driver = import_module("pipeline.plan.driver")
    if dry_run:
        driver.print_dry_run(ROOT, target, slots)
        return
    chosen = None if gpus is None else [gpu for gpu in gpus.split(",") if gpu]
    options = tuple(option for option in (slurm_options or "").split(",") if option)
    cluster = import_module("pipeline.plan.pool").Cluster(ray, options) if slurm or ray is not None else None
    sys.exit(driver.run_stages(ROOT, target, slots, chosen, cluster))


def recover() -> None:
    """Mend a dvc.lock that a kill or a merge broke."""
    import_module("pipeline.plan.recovery").print_recovery(ROOT)


def keep(study: Annotated[str, "a folder of specs/"]) -> None:
    """Keep a study's models after an edit of code that changes no arm."""
    require_known("study", study, load_project(ROOT).specs)
    import_module("pipeline.plan.keep").print_keep(ROOT, study)


def give(folder: Annotated[Path, "on a shared disk, or to be put on a web server"]) -> None:
    """Copy trained models into a folder, for others."""
    import_module("pipeline.run.results").give_results(ROOT, folder)


def take(source: Annotated[str, "such a folder, or its address: https://..."]) -> None:
    """Fetch trained models from such a folder or its address; verified."""
    import_module("pipeline.run.results").take_results(ROOT, source)


def tables(table: Annotated[list[str], "as in specs/STUDY/tables/; all of them if none is named"]) -> None:
    """Print the tables, ours beside the paper's, and what is missing."""
    import_module("pipeline.report.terminal").print_tables(ROOT, table)


def summary() -> None:
    """What `make` ends with: the answer, Table 1, the verdicts."""
    import_module("pipeline.report.summary").print_summary(ROOT)


def compare(
    before: Annotated[str, "a revision of git or an experiment of DVC"],
    after: Annotated[str | None, "the same; the workspace if not given"] = None,
    *,
    all_: Annotated[bool, "show the cells that are the same as well"] = False,
) -> None:
    """Two sweeps cell by cell: what changed beyond chance."""
    import_module("pipeline.report.compare").print_comparison(ROOT, before, after, all_)


def frontpage() -> None:
    """Put the results of reports/ into README.md."""
    import_module("pipeline.report.frontpage").write_results(ROOT)


def export(
    case: Annotated[str, "of the study ddpm"],
    arm: Annotated[str, "baseline, or field=value[,field=value]"],
    seed: Annotated[int, "of the run"],
    out: Annotated[Path, "a new folder"],
    *,
    step: Annotated[int | None, "of a snapshot; the last averaged weights if not given"] = None,
) -> None:
    """Write a diffusion model as a folder that diffusers reads."""
    import_module("pipeline.diffusers.exchange").print_export(ROOT, case, arm, seed, step, out)


def ema(
    run: Annotated[str, "ddpm/CASE/ARM/SEED, of an arm with ema=power"],
    *,
    length: Annotated[float | None, "standard deviation of the average over the training, between 0 and 0.2887"] = None,
    out: Annotated[Path | None, "a new file; ema-LENGTH.safetensors if not given"] = None,
) -> None:
    """Average a diffusion model's weights anew, over another length."""
    if length is None:
        raise SpecError("--length is missing: a number between 0 and 0.2887, as 0.05")
    import_module("pipeline.studies.ddpm.post_hoc").print_average(ROOT, run, length, out)


def import_(
    folder: Annotated[Path, "as diffusers' DDPMPipeline saves it, with safetensors"],
    name: Annotated[str, "the first digits of the weights' checksum are appended"],
    *,
    case: Annotated[str, "whose baseline the arm differs from; cifar10 if not given"] = "cifar10",
) -> None:
    """Check a folder of diffusers'; print how it becomes an arm."""
    import_module("pipeline.diffusers.exchange").print_import(ROOT, folder, name, case)


def timetest(
    factory: Annotated[str, "package.module:factory, found from the current folder; it makes a torch module"],
    *,
    case: Annotated[str | None, "there_and_back, turning_wind, or white_noise for denoisers; by the signature"] = None,
    seeds: Annotated[int, "trainings"] = 5,
    steps: Annotated[int | None, "of each; as ours if not given"] = None,
    time: Annotated[str | None, "name of the argument that is the time; by its name"] = None,
    scale: Annotated[str | None, "what it is told: levels, 0 to 999, or unit, 0 to 1; by the case"] = None,
    lift: Annotated[int | None, "channels that the network wants; 1x1 convolutions make them of one"] = None,
) -> None:
    """Trained where losing the time costs a known amount: does it use it?"""
    options = {"case": case, "seeds": seeds, "steps": steps, "time": time, "scale": scale, "lift": lift}
    compute = load_compute(ROOT)
    tune_process(compute.threads, compute.portable)
    import_module("pipeline.studies.timetest.answer").print_answer(factory, **options)


def audit(
    target: Annotated[str, "package.module:factory, diffusers:FOLDER, runs/STUDY/CASE/ARM/SEED, or a built-in's name"],
    *,
    time: Annotated[str | None, "the input that is the time: a name, a place, or a path as cond.t; guessed"] = None,
    times: Annotated[str | None, "from:to:count, as 0:999:11, or numbers with commas; guessed"] = None,
    at: Annotated[float | None, "the time from which the data at the sites are; the middle one"] = None,
    channels: Annotated[int | None, "the axis of the channels; guessed"] = None,
    data: Annotated[str | None, "inputs that are the data, with commas; guessed"] = None,
    html: Annotated[Path | None, "write a page to this file"] = None,
    json_: Annotated[Path | None, "write the numbers to this file"] = None,
    fail_below: Annotated[float | None, "end with status 1 if less survives at a site that a norm follows"] = None,
    data_file: Annotated[Path | None, "images (.npz) on which a trained network is told wrong times"] = None,
    loss: Annotated[str | None, "its training loss: ddpm, flow or edm"] = None,
) -> None:
    """Where the time enters, and what of it survives the norms."""
    command = import_module("pipeline.audit.command")
    options = command.Options(time, times, at, channels, data, html, json_, fail_below, data_file, loss)
    if command.print_audit(ROOT, target, options):
        sys.exit(1)


GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "Before a run": (check, plan, fields, show),
    "Run": (run, recover, keep),
    "Results": (summary, tables, compare, frontpage),
    "Trained models": (take, give, export, import_, ema),
    "A network of your own": (audit, timetest),
}
COMMANDS = tuple(command for commands in GROUPS.values() for command in commands)
EXAMPLES = {
    "fields node": "what an arm of the study node may change",
    "run --slots 4": "four steps at once",
    "compare HEAD": "what your edit did, cell by cell",
    "audit unet2d": "where the time enters a network",
}


def main() -> None:
    """Parse the command line and run its command."""
    command, arguments = parse(sys.argv[1:], GROUPS, EXAMPLES)
    command(**arguments)


if __name__ == "__main__":
    run_stage(main)
