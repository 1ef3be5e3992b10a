"""python -m pipeline: look at what params.yaml and specs/ say, before anything runs."""

import argparse
import json
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.compute.device import check_compute
from pipeline.run.inputs import read_inputs
from pipeline.run.machine import check_links
from pipeline.run.process import run_stage
from pipeline.schema.base import flatten
from pipeline.schema.project import Project, load_project
from pipeline.schema.study import Run

ROOT = Path()


def count_params(project: Project, run: Run) -> int:
    """Number of trained parameters of a run's network, built without memory for its weights."""
    import torch

    from pipeline.studies.ddpm.unet import make_unet
    from pipeline.studies.node.network import NodeClassifier

    data = project.data.datasets[run.dataset]
    with torch.device("meta"):
        network: torch.nn.Module
        if run.study == "node":
            network = NodeClassifier(run.network, data.channels, run.training.image_size, data.classes)
        else:
            network = make_unet(run, data.channels)
    return sum(value.numel() for value in network.parameters())


def show(args: argparse.Namespace) -> None:
    """Print one run, fully resolved."""
    project = load_project(ROOT)
    run = project.resolve(args.study, args.dataset, args.arm, args.seed)
    content: dict[str, object] = {**run.model_dump(), "num_params": count_params(project, run)}
    if args.study == "ddpm":
        content["sampling"] = project.ddpm.datasets[args.dataset].sampling.model_dump()
    if args.json:
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


def fields(args: argparse.Namespace) -> None:
    """List what an arm of a study may change: the fields in an arm's order, their values, the baseline's."""
    project = load_project(ROOT)
    base: BaseModel = project.node.base if args.study == "node" else project.ddpm.base.network
    for name, field in type(base).model_fields.items():
        value = getattr(base, name)
        print(f"{name} ({describe_values(field)}; baseline: {'null' if value is None else value})")
        print(textwrap.fill(field.description or "", 110, initial_indent="    ", subsequent_indent="    "))


def check(args: argparse.Namespace) -> None:
    """Validate params.yaml and specs/, look whether this machine can do it; list what would be trained."""
    project = read_inputs(lambda: load_project(ROOT))
    check_links(ROOT)
    check_compute(project.panel.compute)
    runs = project.runs()
    if args.quiet:
        return
    for run in runs:
        print(f"{run.study} {run.dataset} {run.arm} seed {run.seed}")
    print(f"params.yaml and specs/ are valid: {len(runs)} models")


def plan(args: argparse.Namespace) -> None:
    """What `dvc repro` would train, and what that costs on this device."""
    # By name, so that the stage `check`, which runs this file, does not depend on every training.
    import_module("pipeline.plan.text").print_plan(ROOT, args.json)


def recover(args: argparse.Namespace) -> None:
    """Mend what a killed `dvc` left behind: a dvc.lock that was cut off, paths that it still calls busy."""
    import_module("pipeline.plan.recovery").print_recovery(ROOT)  # by name, as in `plan`


def tables(args: argparse.Namespace) -> None:
    """Print tables of the records there are, ours beside the paper's, and what is missing."""
    import_module("pipeline.report.terminal").print_tables(ROOT, args.table)  # by name, as in `plan`


def compare(args: argparse.Namespace) -> None:
    """Two revisions or experiments, or one and the workspace, cell by cell: what changed beyond chance."""
    import_module("pipeline.report.compare").print_comparison(ROOT, args.before, args.after, args.all)


def frontpage(args: argparse.Namespace) -> None:
    """Put the results of reports/ into README.md, where its marks are."""
    import_module("pipeline.report.frontpage").write_results(ROOT)


def export(args: argparse.Namespace) -> None:
    """Write a trained diffusion model as a folder that diffusers reads."""
    exchange = import_module("pipeline.diffusers.exchange")  # by name, as in `plan`
    exchange.print_export(ROOT, args.dataset, args.arm, args.seed, args.step, args.out)


def adopt(args: argparse.Namespace) -> None:
    """Check a folder of diffusers'; print what to write so that an arm takes its weights."""
    import_module("pipeline.diffusers.exchange").print_import(ROOT, args.folder, args.name, args.dataset)


def main() -> None:
    """Parse the command line and run its command."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(required=True)
    checker = commands.add_parser("check", help=check.__doc__)
    checker.add_argument("--quiet", action="store_true", help="print nothing but errors")
    checker.set_defaults(run=check)
    shower = commands.add_parser("show", help=show.__doc__)
    shower.add_argument("study", choices=["node", "ddpm"])
    shower.add_argument("dataset")
    shower.add_argument("arm", help="baseline, or field=value[,field=value]")
    shower.add_argument("--seed", type=int, default=0)
    shower.add_argument("--json", action="store_true")
    shower.set_defaults(run=show)
    lister = commands.add_parser("fields", help=fields.__doc__)
    lister.add_argument("study", choices=["node", "ddpm"])
    lister.set_defaults(run=fields)
    planner = commands.add_parser("plan", help=plan.__doc__)
    planner.add_argument("--json", action="store_true")
    planner.set_defaults(run=plan)
    commands.add_parser("recover", help=recover.__doc__).set_defaults(run=recover)
    printer = commands.add_parser("tables", help=tables.__doc__)
    printer.add_argument("table", nargs="*", help="as in specs/tables/; all of them if none is named")
    printer.set_defaults(run=tables)
    comparer = commands.add_parser("compare", help=compare.__doc__)
    comparer.add_argument("before", help="a revision of git or an experiment of DVC")
    comparer.add_argument("after", nargs="?", help="the same; the workspace if not given")
    comparer.add_argument("--all", action="store_true", help="show the cells that are the same as well")
    comparer.set_defaults(run=compare)
    commands.add_parser("frontpage", help=frontpage.__doc__).set_defaults(run=frontpage)
    exporter = commands.add_parser("export", help=export.__doc__)
    exporter.add_argument("dataset")
    exporter.add_argument("arm")
    exporter.add_argument("seed", type=int)
    exporter.add_argument("out", type=Path, help="a new folder")
    exporter.add_argument("--step", type=int, help="of a snapshot; the last averaged weights if not given")
    exporter.set_defaults(run=export)
    importer = commands.add_parser("import", help=adopt.__doc__)
    importer.add_argument("folder", type=Path, help="as diffusers' DDPMPipeline saves it, with safetensors")
    importer.add_argument("name", help="the first digits of the weights' checksum are appended")
    importer.add_argument("--dataset", default="cifar10", help="whose baseline the arm differs from")
    importer.set_defaults(run=adopt)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    run_stage(main)
