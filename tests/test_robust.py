"""benchmarks.robust: what is measured again, and whether verdicts are the same."""

from workspace import check_out

from benchmarks.robust import choose_runs, show
from pipeline.report.claims import judge_records
from pipeline.schema.project import load_project


def test_verdicts_are_compared_with_those_of_the_records():
    root = check_out().root
    project = load_project(root)
    pages = judge_records(root, project)
    runs = choose_runs(pages, "timetest", "steps", wide=False)
    assert {seed for _, _, seed in runs} == {0, 1, 2, 3, 4}
    assert {seed for _, _, seed in choose_runs(pages, "timetest", "seeds", wide=False)} == {5, 6, 7, 8, 9}
    assert set(choose_runs(pages, "timetest", "steps", wide=True)) < set(runs)

    panels = {page.panels["timetest"].case: page.panels["timetest"] for page in pages if "timetest" in page.panels}
    records = {(case, arm, seed): panels[case].records[arm][seed] for case, arm, seed in runs}
    same = show(project, "timetest", "steps", pages, {key: found.model_dump_json() for key, found in records.items()})
    *rows, last = same.splitlines()
    wide = sum("| yes |" in " ".join(row.split()) for row in rows)
    assert wide > 20
    assert last == f"{wide} of {wide} wide effects have the same verdict"

    blind = "norm=batch,time=linear"  # as if it were not: claims f1, f5 and f12 have it
    others = {key: found.model_copy(update={"r": 0.01}) if key[1] == blind else found for key, found in records.items()}
    changed = show(project, "timetest", "steps", pages, {key: one.model_dump_json() for key, one in others.items()})
    lines = [row for row in changed.splitlines() if row.rstrip(" |").endswith("changed")]
    assert lines
    assert all(blind in row for row in lines)
    assert f"{wide} of {wide} wide" not in changed
