"""Text tables as LaTeX: `table` environments with booktabs rules, every character of the text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hssl_ray.report.text_table import TextTable

ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "\n": " ",
    "±": r"$\pm$", "−": r"$-$", "Δ": r"$\Delta$", "–": "--", "…": r"\ldots{}", "²": r"$^2$",
}  # fmt: skip
PREAMBLE = "% needs \\usepackage{booktabs}\n"


def latex_page(tables: Sequence[TextTable], footnotes: Mapping[str, str], notes: Sequence[str]) -> str:
    """The tables, footnotes under the first, and the notes as a list; to be `\\input` into a document."""
    parts = [latex_table(table, footnotes if index == 0 else {}) for index, table in enumerate(tables)]
    if notes:
        items = "\n".join(f"  \\item {escaped(note)}" for note in notes)
        parts.append(f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}\n")
    return PREAMBLE + "\n".join(parts)


def latex_table(table: TextTable, footnotes: Mapping[str, str]) -> str:
    """One floating table; a rule where the first column changes."""
    lines = [
        r"\begin{table}[t]",
        r"  \centering\small",
        f"  \\caption{{{escaped(table.title)}}}",
        f"  \\begin{{tabular}}{{{'l' * len(table.header)}}}",
        r"    \toprule",
        "    " + " & ".join(map(escaped, table.header)) + r" \\",
        r"    \midrule",
    ]
    for number, row in enumerate(table.rows):
        if number and row[0] != table.rows[number - 1][0] and len({r[0] for r in table.rows}) < len(table.rows):
            lines.append(r"    \addlinespace")
        cells = (
            rf"\textbf{{{escaped(cell)}}}" if (number, column) in table.strong else escaped(cell)
            for column, cell in enumerate(row)
        )
        lines.append("    " + " & ".join(cells) + r" \\")
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    if footnotes:
        said = r" \\ ".join(f"{escaped(mark)}: {escaped(text)}" for mark, text in footnotes.items())
        lines.append(rf"  \par\smallskip\parbox{{\linewidth}}{{\footnotesize {said}}}")
    return "\n".join([*lines, r"\end{table}", ""])


def escaped(text: str) -> str:
    """Text that LaTeX shows as it is. A bracket that opens a row would be an option of the row before: `{[}`."""
    written = "".join(ESCAPES.get(character, character) for character in text)
    return "{[}" + written[1:] if written.startswith("[") else written
