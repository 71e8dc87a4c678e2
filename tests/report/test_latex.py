"""LaTeX of text tables: balanced, escaped, and with the rules of booktabs."""

from __future__ import annotations

import re

import pytest

from hssl_ray.report.paper.latex import escaped, latex_page
from hssl_ray.report.text_table import TextTable

HOSTILE = r"50% & $x_1 \{y}^2~# [<|>]"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a_ssl 95 %", r"a\_ssl 95 \%"),
        ("98.6 ± 0.1 (Δ −0.3)", r"98.6 $\pm$ 0.1 ($\Delta$ $-$0.3)"),
        ("[1.0, 2.0]", "{[}1.0, 2.0]"),  # else an option of the line break before it
        ("a\\b", r"a\textbackslash{}b"),
    ],
)
def test_text_is_shown_as_it_is(text: str, written: str) -> None:
    assert escaped(text) == written


def test_a_page_is_balanced_whatever_it_says() -> None:
    table = TextTable(HOSTILE, ("one", HOSTILE), (("a", HOSTILE), ("b", HOSTILE), ("b", "−1")), frozenset({(0, 1)}))
    text = latex_page([table], {"1": HOSTILE}, [HOSTILE])
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert re.findall(r"\\begin{(\w+)}", text) == ["table", "tabular", "itemize"]
    assert sorted(re.findall(r"\\end{(\w+)}", text)) == ["itemize", "table", "tabular"]
    assert [text.count(rf"\{rule}") for rule in ("toprule", "midrule", "bottomrule", "addlinespace")] == [1, 1, 1, 1]
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 4 and all(len(re.findall(r"(?<!\\)&", line)) == 1 for line in body)
    assert text.count(r"\textbf{") == 1
    assert not re.search(r"(?<!\\)[#%_](?! needs)", text.partition("\n")[2])


def test_the_check_above_can_fail() -> None:
    assert re.search(r"(?<!\\)[#%_](?! needs)", "50% of it")
