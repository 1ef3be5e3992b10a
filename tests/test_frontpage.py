"""The results on README.md are those of the committed report."""

from pathlib import Path

import pytest
from workspace import Workspace, check_out, copy_settings

from pipeline.report.frontpage import put_results, write_results

FRONT = {"front": ["answer", "table1", "figure7", "table3"]}


def test_the_front_page_shows_the_committed_report():
    root = check_out().root
    assert put_results(root) == (root / "README.md").read_text(encoding="utf-8"), "run: python -m pipeline frontpage"


def test_the_results_are_put_between_the_marks(tmp_path: Path):
    """A text, a figure and two tables, whatever the front page has of these kinds."""
    (tmp_path / "reports").mkdir()
    settings = Workspace(copy_settings(tmp_path))
    settings.write("specs/report.yaml", settings.read("specs/report.yaml") | FRONT)
    for name in ("table1", "table3"):
        table = "| Arm | n |\n| --- | --: |\n| a | 2 |\n\n- the embedded default: **not the paper's scale**.\n- note.\n"
        text = f"## {name}: what it is\n\nA caption | of it.\n\n### digits\n\n{table}"
        (tmp_path / "reports" / f"{name}.md").write_text(text)
    (tmp_path / "reports" / "figure7.md").write_text("## Figure 7: what it shows\n\nA caption.\n")
    (tmp_path / "reports" / "answer.md").write_text("## A question?\n\nIt is so.\nAnd so.\n\n(Of what.)\n")
    readme = tmp_path / "README.md"
    marks = "<!-- results: python -m pipeline frontpage -->\nold\n<!-- end of results -->"
    readme.write_text(f"before\n{marks}\nafter\n")
    write_results(tmp_path)
    text = readme.read_text()
    assert text.startswith("before\n<!--")
    assert text.endswith("<!-- end of results -->\nafter\n")
    assert "\n- It is so.\n- And so.\n\n(Of what.)\n\n" in text
    assert "A question?" not in text
    assert "**[table1: what it is](reports/table1.md)**\n\nOn digits:\n\n" in text
    assert text.count("| Arm | n |\n| --- | --: |\n| a | 2 |\n") == 2
    assert "![Figure 7: what it shows](<reports/figure7.svg>)" in text
    assert text.count("The embedded default: **not the paper's scale**.") == 2
    assert not {"old", "A caption | of it.", "- note."} & set(text.splitlines())
    write_results(tmp_path)
    assert readme.read_text() == text
    readme.write_text("no marks")
    with pytest.raises(ValueError, match=r"README\.md: the lines"):
        write_results(tmp_path)
