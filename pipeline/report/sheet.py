"""A table as CSV: every number behind it, at full precision."""

import csv
import io

from pipeline.report.grid import Cell, Grid, Heading
from pipeline.schema.base import find_duplicate


def _names(heading: Heading) -> list[str]:
    return [heading.key] if heading.of_paper else [heading.key, f"{heading.key}.std", f"{heading.key}.n"]


def _numbers(heading: Heading, cell: Cell) -> dict[str, str]:
    if heading.of_paper:
        return {} if cell.printed is None else {heading.key: repr(cell.printed)}
    if cell.summary is None:
        return {}
    mean, std, n = cell.summary.mean, cell.summary.std, cell.summary.n
    numbers = {heading.key: repr(mean), f"{heading.key}.n": str(n)}
    return numbers if std is None else {**numbers, f"{heading.key}.std": repr(std)}


def write_csv(grid: Grid) -> str:
    """One row a case and arm; of each column KEY the mean, KEY.std over seeds and KEY.n, and paper.KEY.

    What is not known is empty; `status` says why. The header has the columns of all cases (RFC 4180, UTF-8, LF).
    """
    headings = {heading.key: heading for block in grid.blocks for heading in block.headings}
    header = [
        "case",
        "setting",
        "arm",
        "runs",
        "status",
        *(name for one in headings.values() for name in _names(one)),
    ]
    assert find_duplicate(header) is None, header
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    for block in grid.blocks:
        for row in block.rows:
            facts = {
                "case": block.case,
                "setting": row.label,
                "arm": row.arm,
                "runs": row.n,
                "status": row.status,
            }
            for heading, cell in zip(block.headings, row.cells, strict=True):
                facts |= _numbers(heading, cell)
            writer.writerow(facts)
    return text.getvalue()
