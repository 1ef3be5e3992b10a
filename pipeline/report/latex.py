"""A table in LaTeX, for `\\input` into a paper that loads booktabs and graphicx."""

import re
import unicodedata
from collections.abc import Sequence

from pipeline.report.grid import Block, Grid

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "→": r"$\to$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"\textdagger{}",
    "—": "---",
    "–": "--",
    "“": "``",
    "”": "''",
    "‖": r"$\|$",
    "\n": " ",
}
_UPRIGHT = 7
"""Columns of values beyond which a table lies on its side: a column's width would make it too small to read."""
_TILDE_T = "p\u0303_t"  # the paper's positional embedding, as the tables spell it


def escape_latex(text: str) -> str:
    """Text that stays text in LaTeX, with any engine; what a standard font lacks is shown by its code point."""
    parts = []
    for piece in re.split(f"({_TILDE_T})", unicodedata.normalize("NFC", text).replace("p̃", "p\u0303")):
        if piece == _TILDE_T:
            parts.append(r"$\tilde{p}_t$")
            continue
        for character in piece:
            if character in _SPECIAL:
                parts.append(_SPECIAL[character])
            elif " " <= character <= "~" or "À" <= character <= "ÿ":
                parts.append(character)
            else:
                parts.append(f"[U+{ord(character):04X}]")
    return "".join(parts)


def _convert(markdown: str) -> str:
    """Our own lines of Markdown, which have no more than `code` and **weight**."""
    parts = []
    for piece in re.split(r"(`[^`]*`|\*\*[^*]*\*\*)", markdown):
        if piece.startswith("`") and len(piece) > 1:
            parts.append(rf"\texttt{{{escape_latex(piece[1:-1])}}}")
        elif piece.startswith("**"):
            parts.append(rf"\textbf{{{escape_latex(piece[2:-2])}}}")
        else:
            parts.append(escape_latex(piece))
    return "".join(parts)


def _cell(text: str) -> str:
    """A cell, with a true minus sign before a number; the end of a row must not take its first bracket for its own."""
    return re.sub(r"^([\[*])", r"{}\1", re.sub(r"^-(?=\d)", "$-$", escape_latex(text)))


def _tabular(block: Block) -> list[str]:
    header = ["Setting", "$n$", *(escape_latex(heading.text) for heading in block.headings)]
    rows = [[_cell(row.label), _cell(row.n), *(_cell(cell.text) for cell in row.cells)] for row in block.rows]
    lines = [f"{' & '.join(cells)} \\\\" for cells in (header, *rows)]
    return [
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(header) - 1)}@{{}}}}",
        r"\toprule",
        lines[0],
        r"\midrule",
        *lines[1:],
        r"\bottomrule",
        r"\end{tabular}}",
    ]


def _paragraphs(markdown: str) -> list[str]:
    """Paragraphs and list items, each on one line."""
    found = re.split(r"\n\n|\n(?=- )", markdown.strip())
    return [_convert(" ".join(piece.removeprefix("- ").split())) for piece in found]


def _sentences(lines: Sequence[str]) -> list[str]:
    return [f"{line[:1].upper()}{line[1:].rstrip('.')}." for line in lines]


def _float(grid: Grid, blocks: Sequence[Block], label: str, sideways: bool) -> list[str]:
    """Some of the cases, and all that stands below them in the report."""
    begin, end = [r"\begin{table}"], [r"\end{table}"]
    if sideways:
        begin = [r"\begin{table*}[p]", r"\rotatebox{90}{\begin{minipage}{\textheight}"]
        end = [r"\end{minipage}}", r"\end{table*}"]
    title = re.sub(r"^Table \d+: ", "", grid.title)
    parts = [
        *begin,
        r"\centering",
        rf"\caption{{{escape_latex(title[:1].upper() + title[1:])}.}}",
        rf"\label{{tab:{label}}}",
        r"\vspace{4pt}",
        r"\footnotesize\setlength{\tabcolsep}{4pt}",
    ]
    for block in blocks:
        parts += ["", rf"\textbf{{{escape_latex(block.title)}}}\\[2pt]", *_tabular(block), r"\\[4pt]"]
    notes = [*_paragraphs(grid.caption), *map(_convert, filter(None, grid.remarks))]
    for block in blocks:
        lines = _sentences([_convert(line) for line in (*block.incidents, *block.notes)])
        notes += [rf"\textit{{{escape_latex(block.title)}:}} {' '.join(lines)}"]
    return [*parts, "", r"\parbox{\linewidth}{\scriptsize", *("\n" + note for note in notes), "}", *end]


def write_latex(grid: Grid, label: str) -> str:
    """A `table` with one `tabular` a case; on its side, one a page, where there are many columns.

    Args:
        label: after `tab:`; `-CASE` is added from the second page on.
    """
    lines = ["% Needs \\usepackage{booktabs,graphicx} and \\usepackage[T1]{fontenc}."]
    if all(len(block.headings) <= _UPRIGHT for block in grid.blocks):
        lines += _float(grid, grid.blocks, label, sideways=False)
    else:
        for index, block in enumerate(grid.blocks):
            lines += _float(grid, [block], f"{label}-{block.case}" if index else label, sideways=True)
    return "\n".join(lines) + "\n"
