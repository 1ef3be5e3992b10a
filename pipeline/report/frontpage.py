"""Results on README.md, which the repository's front page shows: between two marks stands what reports/ has."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.schema.files import write_file
from pipeline.schema.report import load_report

_BEGIN, _END = "<!-- results: python -m pipeline frontpage -->", "<!-- end of results -->"


def _read_view(root: Path, name: str) -> tuple[str, list[str]]:
    """Title and further lines of a rendered view."""
    title, *lines = (root / "reports" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    return title.removeprefix("## "), lines


def _quote_table(root: Path, name: str) -> Iterator[str]:
    """Title and tables of a rendered page, with their scale and without the rest that explains them."""
    title, lines = _read_view(root, name)
    yield f"**[{title}](reports/{name}.md)**"
    for line in lines:
        if line.startswith("### "):
            yield from ("", f"On {line.removeprefix('### ')}:", "")
        elif line.startswith("|"):
            yield line
        elif line.startswith("- the embedded default"):
            yield from ("", line.removeprefix("- ").capitalize())
    yield ""


def _quote_text(root: Path, name: str) -> Iterator[str]:
    """A rendered text without its title: its first paragraph as a list, a line each, and the others as they are."""
    first, *others = "\n".join(_read_view(root, name)[1]).strip().split("\n\n")
    yield from (f"- {line}" for line in first.splitlines())
    for paragraph in others:
        yield from ("", *paragraph.splitlines())
    yield ""


def quote_results(root: Path) -> str:
    """What README.md shows, from reports/: the views that specs/report.yaml names.

    Raises:
        OSError: there is no report.
        SpecError: specs/report.yaml is wrong.
    """
    report, parts = load_report(root), list[str]()
    for name in report.front:
        if name in report.figures:
            title, (_, caption, *_) = _read_view(root, name)
            parts += [f"**[{title}](reports/{name}.md)** {caption}", "", f"![{title}](<reports/{name}.svg>)", ""]
        elif name in report.texts:
            parts += _quote_text(root, name)
        else:
            parts += _quote_table(root, name)
    return "\n".join([_BEGIN, "", *parts, _END])


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
