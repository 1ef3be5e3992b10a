"""Are the verdicts of a measured study the same with other seeds, other arithmetic, or a longer training?

    python -m benchmarks.robust timetest --change seeds --processes 2
    python -m benchmarks.robust timetest --change native sse steps --wide

Runs the main arms of params.yaml that a claim compares again, with one thing changed: `seeds` takes the five seeds
after those of params.yaml, `native` the CPU's own vector instructions (`portable: false`; the same bytes on a CPU
without AVX-512), `sse` those of old CPUs, which round differently on all, `steps` twice the steps.
What is done is kept in a file, so that a second call goes on. The claims are judged by the report's own code.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from pipeline.compute.cpu import PORTABLE
from pipeline.compute.threads import tune_process
from pipeline.report.claims import Outcome, Page, judge_claims, judge_records
from pipeline.report.markdown import align_table
from pipeline.report.statistics import find_interval, summarise
from pipeline.schema.project import Project, load_project
from pipeline.schema.record import Failure
from pipeline.schema.study import MeasuredRecord, MeasureError, find_study

ROOT = Path(__file__).resolve().parent.parent
CHANGES = ("seeds", "native", "sse", "steps")
_KERNELS = {
    "native": dict.fromkeys(PORTABLE, ""),
    "sse": dict.fromkeys(PORTABLE, "") | {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}
"""Variables of the libraries, in place of the portable ones; empty: not set."""
_WIDE = 3
"""An effect of more than so many half-widths of its interval is expected again."""
Key = tuple[str, str, int]
"""Case, arm, seed."""


def measure(study: str, key: Key, change: str) -> tuple[Key, str]:
    """Measure a run with one thing changed; returns its record as JSON. In a process of its own."""
    tune_process(1, change not in _KERNELS)
    run = load_project(ROOT).resolve(study, *key)
    if change == "steps":
        run = run.model_copy(update={"training": run.training.model_copy(update={"steps": 2 * run.training.steps})})
    work = find_study(study).measure
    assert work is not None
    try:
        return key, work(run).model_dump_json()
    except MeasureError as error:
        return key, Failure(epoch=1, step=error.step, reason=str(error)).model_dump_json()


def list_compared(pages: list[Page], study: str) -> Iterator[tuple[Page, str, Outcome]]:
    """The comparisons of a study that are decided by an interval over seeds: page, claim and outcome."""
    claims = [claim.id for claim in load_project(ROOT).claims[study].claims]
    for page in pages:
        for name in claims:
            for outcome in page.judged[name].outcomes if name in page.judged else ():
                contrast = outcome.contrast
                if outcome.margin is None and contrast.tolerance is None and not contrast.each and contrast.weights:
                    yield page, name, outcome


def choose_runs(pages: list[Page], study: str, change: str, wide: bool) -> list[Key]:
    """The runs behind these comparisons; or behind those alone whose effect is expected again."""
    found: dict[Key, None] = {}
    for page, _, outcome in list_compared(pages, study):
        if wide and not _is_wide(outcome):
            continue
        panel = page.panels[study]
        for arm in (arm for arm in panel.arms if arm in outcome.contrast.weights):
            seeds = panel.seeds[arm]
            for seed in seeds:
                found[panel.case, arm, seed + (max(seeds) + 1 if change == "seeds" else 0)] = None
    return list(found)


def show(project: Project, study: str, change: str, pages: list[Page], records: Mapping[Key, str]) -> str:
    """The effects as committed and as changed."""
    kinds = find_study(study)
    panels = []
    for page in pages:
        if study not in page.panels:
            continue
        panel, mine = page.panels[study], dict[str, dict[int, MeasuredRecord | Failure]]()
        for (case, arm, seed), text in records.items():
            if case == panel.case:
                model = Failure if json.loads(text)["status"] == "failed" else kinds.record
                mine.setdefault(arm, {})[seed] = model.model_validate_json(text)
        seeds = {arm: list(mine.get(arm, {})) for arm in panel.arms}
        panels.append({study: replace(panel, seeds=seeds, records=mine, changes={})})
    again = {
        (page.panels[study].case, name, outcome.contrast.text): outcome
        for page, name, outcome in list_compared(judge_claims(project, panels), study)
    }
    rows, wide, same = [], 0, 0
    for page, name, before in list_compared(pages, study):
        after = again[page.panels[study].case, name, before.contrast.text]
        is_wide = _is_wide(before)
        wide, same = wide + is_wide, same + (is_wide and before.verdict == after.verdict)
        told = "" if before.verdict == after.verdict else "changed"
        rows.append([name, before.contrast.text, _say(before), _say(after), "yes" if is_wide else "", told])
    header = ["Claim", "Comparison", "Committed", change, "Wide", "Verdict"]
    return f"{align_table(header, rows, left=2)}\n{same} of {wide} wide effects have the same verdict"


def _is_wide(outcome: Outcome) -> bool:
    summary = summarise(outcome.effects)
    interval = find_interval(summary) if summary else None
    return bool(summary and interval and abs(summary.mean) > _WIDE * (interval[1] - interval[0]) / 2)


def _say(outcome: Outcome) -> str:
    summary = summarise(outcome.effects)
    interval = find_interval(summary) if summary else None
    if summary is None or interval is None:
        return outcome.verdict
    return f"{summary.mean:+.3f} ± {(interval[1] - interval[0]) / 2:.3f} {outcome.verdict} (n = {summary.n})"


def main() -> None:  # noqa: D103
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--change", nargs="+", choices=CHANGES, default=CHANGES)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--wide", action="store_true", help="only the runs behind effects that are expected again")
    parser.add_argument("--out", type=Path, default=Path("/tmp"), help="folder of the records")  # noqa: S108
    arguments = parser.parse_args()
    project = load_project(ROOT)
    pages = judge_records(ROOT, project)
    for change in arguments.change:
        path = arguments.out / f"robust-{arguments.study}-{change}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        records = {(case, arm, seed): text for case, arm, seed, text in map(json.loads, lines)}
        todo = [key for key in choose_runs(pages, arguments.study, change, arguments.wide) if key not in records]
        for name, value in _KERNELS.get(change, PORTABLE).items():  # a worker loads its libraries first of all
            os.environ.pop(name, None)
            os.environ |= {name: value} if value else {}
        with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
            jobs = [pool.submit(measure, arguments.study, key, change) for key in todo]
            for index, job in enumerate(as_completed(jobs)):
                key, text = job.result()
                records[key] = text
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([*key, text]) + "\n")
                print(f"{change}: {index + 1} of {len(todo)}", file=sys.stderr)
        print(show(project, arguments.study, change, pages, records), flush=True)


if __name__ == "__main__":
    main()
