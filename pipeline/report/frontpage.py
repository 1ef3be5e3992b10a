"""Results on README.md, which the repository's front page shows: between two marks stands what reports/ has."""

from pathlib import Path

from pipeline.schema.files import write_file

_BEGIN, _END = "<!-- results: python -m pipeline frontpage -->", "<!-- end of results -->"
_TABLES = ("table1", "table3")


def _quote_table(root: Path, name: str) -> list[str]:
    """Title and tables of a rendered page, with their scale and without the rest that explains them."""
    title, *lines = (root / "reports" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    quoted = [f"**[{title.removeprefix('## ')}](reports/{name}.md)**"]
    for line in lines:
        if line.startswith("### "):
            quoted += ["", f"On {line.removeprefix('### ')}:", ""]
        elif line.startswith("|"):
            quoted.append(line)
        elif line.startswith("- the embedded default"):
            quoted += ["", line.removeprefix("- ").capitalize()]
    return [*quoted, ""]


def quote_results(root: Path) -> str:
    """What README.md shows, from reports/.

    Raises:
        OSError: there is no report.
    """
    lines = [line for name in _TABLES for line in _quote_table(root, name)]
    picture = "![Figure 7: accuracy over the number of groups](<reports/figure7.svg>)"
    return "\n".join([_BEGIN, "", *lines, picture, "", _END])


def put_results(root: Path) -> str:
    """README.md with the results of reports/ between its marks.

    Raises:
        ValueError: README.md lacks the marks.
    """
    text = (root / "README.md").read_text(encoding="utf-8")
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise ValueError(f"README.md: the lines {_BEGIN} and {_END} must be there once each")
    before, rest = text.split(_BEGIN)
    return before + quote_results(root) + rest.split(_END)[1]


def write_results(root: Path) -> None:
    """Put the results of reports/ into README.md."""
    write_file(root / "README.md", put_results(root))
