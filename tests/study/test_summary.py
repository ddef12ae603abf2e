"""Scores for each value of what varies: the numbers, and the forms that they are given in."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest

from disentangle_ext.study.records import collect, long_table
from disentangle_ext.study.run import Variation
from disentangle_ext.study.summary import Scored, as_csv, as_latex, as_text, scored, summarise, write_summary
from tests.study.faked import study

SETTINGS = {beta: Variation("digits", "beta_vae", "beta", f"{beta}") for beta in (16, 2, 4)}


def scores(metric: str, of: dict[int, list[float]]) -> list[Scored]:
    return [Scored(SETTINGS[beta], metric, value) for beta, values in of.items() for value in values]


def test_mean_deviation_median_and_number_over_seeds() -> None:
    found = summarise(scores("mig", {2: [0.1, 0.2, 0.6], 16: [0.5], 4: [0.25, math.nan, 0.75]}))
    assert [(line.setting.value, line.n) for line in found] == [("2", 3), ("4", 2), ("16", 1)]
    assert [line.mean for line in found] == pytest.approx([0.3, 0.5, 0.5])
    assert [line.median for line in found] == pytest.approx([0.2, 0.5, 0.5])
    assert found[0].sd == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))
    assert found[1].sd == pytest.approx(0.5 / math.sqrt(2))
    assert math.isnan(found[2].sd)


def test_the_order_does_not_depend_on_that_of_the_scores() -> None:
    several = [
        *scores("kl", {4: [1.0], 2: [2.0]}),
        *scores("downstream_1000", {2: [0.5]}),
        *scores("mine", {2: [0.5]}),
        *scores("downstream_100", {2: [0.5]}),
        *scores("mig", {2: [0.5]}),
    ]
    found = summarise(several)
    assert str(summarise(several[::-1])) == str(found)  # NaN is not equal to itself
    assert [line.metric for line in found] == ["mig", "downstream_100", "downstream_1000", "kl", "mine", "kl"]


def test_a_table_of_a_study_has_every_score_of_every_setting(tmp_path: Path) -> None:
    planned = study(tmp_path / "a")
    collected = collect([planned.folder])
    table = long_table(collected.runs, collected.records)
    lines = summarise(scored(table))
    metrics = set(table.column("metric").to_pylist())
    assert len(lines) == 4 * len(metrics)
    assert {line.n for line in lines} == {2}
    (line,) = (line for line in lines if line.metric == "sap" and line.setting.value == "16")
    values = [row["score"] for row in table.to_pylist() if row["metric"] == "sap" and row["value"] == "16"]
    assert (line.mean, line.median) == pytest.approx((np.mean(values), np.median(values)))
    assert list(dict.fromkeys(line.setting.value for line in lines)) == ["1", "4", "16", ""]


def test_text_is_aligned_and_no_wider_than_the_terminal() -> None:
    lines = summarise(
        [
            *scores("mig", {2: [0.1, 0.3], 16: [0.5]}),
            *scores("sap", {2: [0.1, 0.3]}),
            *scores("elbo", {2: [-700.0, -710.0], 16: [-650.0]}),
            Scored(Variation("dsprites", "vae", "", ""), "mig", -1e-9),
        ]
    )
    for width in (60, 80, 100, 200):
        tables = as_text(lines, width=width).split("\n\n")
        rows = [row for table in tables for row in table.splitlines() if "mean," not in row]
        assert max(map(len, rows)) <= width
    text = as_text(lines)
    assert text.splitlines() == [
        "digits: mean, standard deviation and median of n runs that differ in their seed",
        "                             mig                       sap                       elbo",
        "                   n   mean     sd  median   n   mean     sd  median   n    mean     sd  median",
        "beta_vae beta=2    2  0.200  0.141   0.200   2  0.200  0.141   0.200   2  -705.0  7.071  -705.0",
        "beta_vae beta=16   1  0.500      -   0.500   0      -      -       -   1  -650.0      -  -650.0",
        "",
        "dsprites: mean, standard deviation and median of n runs that differ in their seed",
        "              mig",
        "      n   mean  sd  median",
        "vae   1  0.000   -   0.000",
    ]
    assert "elbo" not in as_text(lines, metrics=["mig"])
    assert as_text([]) == ""


def test_csv_has_all_digits() -> None:
    lines = summarise(scores("mig", {2: [0.1, 0.2], 16: [1 / 3]}))
    rows = list(csv.DictReader(as_csv(lines).splitlines()))
    assert [(row["value"], row["n"]) for row in rows] == [("2", "2"), ("16", "1")]
    assert float(rows[1]["mean"]) == 1 / 3
    assert rows[1]["sd"] == ""
    assert float(rows[0]["sd"]) == lines[0].sd
    assert list(rows[0]) == ["data_set", "objective", "hyperparameter", "value", "metric", "n", "mean", "sd", "median"]


BOLD = {
    "clearly ahead": ("mig", {2: [0.1, 0.2], 4: [0.5, 0.6], 16: [0.2, 0.3]}, "0.550"),
    "less is better": ("reconstruction", {2: [20.0, 21.0], 4: [50.0, 51.0]}, "20.500"),
    "within the standard error": ("mig", {2: [0.1, 0.9], 4: [0.5, 0.6]}, None),
    "ahead of one, not of the other": ("mig", {2: [0.1, 0.1], 4: [0.5, 0.6], 16: [0.0, 1.0]}, None),
    "one run": ("mig", {2: [0.1, 0.2], 4: [0.9]}, None),
    "one setting": ("mig", {2: [0.1, 0.2]}, None),
    "equal": ("mig", {2: [0.5, 0.5], 4: [0.5, 0.5]}, None),
    "neither end is good": ("kl", {2: [1.0, 1.1], 4: [5.0, 5.1]}, None),
    "a metric of one's own": ("mine", {2: [0.1, 0.2], 4: [0.5, 0.6]}, None),
    "accuracy": ("downstream_100", {2: [0.1, 0.2], 4: [0.5, 0.6]}, "0.550"),
}


@pytest.mark.parametrize("case", BOLD)
def test_what_is_ahead_by_more_than_the_standard_error_is_bold(case: str) -> None:
    metric, values, want = BOLD[case]
    bold = re.findall(r"\\mathbf\{(.*?)\}", as_latex(summarise(scores(metric, values))))
    assert bold == ([] if want is None else [want])


def test_latex_is_escaped_and_cut_into_tables() -> None:
    setting = Variation("my_data & 50%", "beta_vae", "beta,path", r"4,a\b{c}~^#$")
    lines = summarise(Scored(setting, f"m_{k}", 0.5) for k in range(7))
    latex = as_latex(lines)
    assert latex.count(r"\begin{tabular}{lccccc}") == 1
    assert latex.count(r"\begin{tabular}{lcc}") == 1
    assert latex.count(r"\caption{my\_data \& 50\%: mean $\pm$") == 2
    assert "standard error of their difference" in latex
    name = r"beta\_vae beta=4 path=a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}\#\$ & "
    assert latex.count(name) == 2
    assert r"setting & m\_0 & m\_1 & m\_2 & m\_3 & m\_4 \\" in latex
    for pair in ("table", "tabular"):
        assert latex.count(f"\\begin{{{pair}}}") == latex.count(f"\\end{{{pair}}}")
    bare = re.sub(r"\\[\\&%$#_{}]", "", latex)
    assert bare.count("{") == bare.count("}")


def test_a_value_with_commas_keeps_its_name(tmp_path: Path) -> None:
    setting = Variation("digits", "vae", "betas", "[0.9, 0.999]")
    assert "vae betas=[0.9, 0.999]   1" in as_text(summarise([Scored(setting, "mig", 0.5)]))
    paths = write_summary(tmp_path / "tables", summarise([Scored(setting, "mig", 0.5)]))
    assert [path.name for path in paths] == ["summary.csv", "summary.tex"]
    assert all(path.read_text() for path in paths)
