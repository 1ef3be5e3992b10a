"""How long the web page takes to render for panels of 30, 100, 300 and 1000 runs, in one process with one thread.

    python -m benchmarks.report

Each panel is this project's digits with more seeds; the records of the seeds that were not run are those that were.
"""

import argparse
import csv
import shutil
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.report.sections import gather
from pipeline.report.sources import read_sources
from pipeline.report.webpage import render_webpage
from pipeline.schema.project import load_project

ROOT = Path(__file__).resolve().parent.parent


def _repeat_rows(path: Path, known: list[int], seeds: int) -> None:
    """Give every seed the rows of one that was run."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for seed in range(seeds):
            of_seed = [row for row in rows if int(row["seed"]) == known[seed % len(known)]]
            writer.writerows(row | {"seed": str(seed)} for row in of_seed)


def make_panel(root: Path, runs: int) -> None:
    """A project in which the digits' arms have so many seeds that there are at least so many runs."""
    for name in ("specs", "records", "reports", "curves", "ledger"):
        shutil.copytree(ROOT / name, root / name)
    params = YAML().load(ROOT / "params.yaml")
    studies = {study: params[study]["digits"] for study in ("node", "ddpm")}
    seeds = -(-runs // sum(len(grid["arms"]) for grid in studies.values()))
    for study, grid in studies.items():
        known = list(grid["seeds"])
        grid["seeds"] = list(range(seeds))
        for arm in grid["arms"]:
            folder = root / "records" / study / "digits" / str(arm)
            for seed in range(seeds):
                if not (folder / f"{seed}.json").exists():
                    shutil.copyfile(folder / f"{known[seed % len(known)]}.json", folder / f"{seed}.json")
        for path in [*(root / "curves" / study / "digits").glob("*.tsv"), root / "ledger" / study / "digits.tsv"]:
            _repeat_rows(path, known, seeds)
    YAML().dump(params, root / "params.yaml")


def main() -> None:
    """Print one line a panel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[30, 100, 300, 1000])
    for runs in parser.parse_args().runs:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            make_panel(root, runs)
            begun = time.perf_counter()
            project = load_project(root)
            contents = gather(read_sources(root, project))
            gathered = time.perf_counter()
            page = render_webpage(contents)
            ended = time.perf_counter()
        print(
            f"{len(contents.runs):5} runs: {ended - begun:5.2f} s ({gathered - begun:.2f} s records and pictures, "
            f"{ended - gathered:.2f} s page), {len(page) / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
