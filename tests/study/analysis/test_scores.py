"""Reading the long table: every kind of source, and every mistake in one line."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from disentangle_ext._errors import MistakeError
from disentangle_ext.study.analysis import Scores, distributions
from disentangle_ext.study.analysis.columns import number_text
from tests.study.analysis.tables import flat, grid, shuffled

TABLE = grid({"mig": np.arange(12.0).reshape(1, 2, 3, 2), "sap": -np.arange(12.0).reshape(1, 2, 3, 2)})


def equal(one: Scores, other: Scores) -> bool:
    names = ("run", "data_set", "objective", "hyperparameter", "value", "seed", "scores")
    return one.metrics == other.metrics and all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "scores") for name in names
    )


def test_runs_and_metrics_are_pivoted_in_an_order_of_their_own():
    scores = Scores.read(shuffled(TABLE))
    assert scores.metrics == ("mig", "sap")
    assert scores.run[:3].tolist() == ["a vae0 beta 1 0", "a vae0 beta 1 1", "a vae0 beta 2 0"]
    np.testing.assert_array_equal(scores.scores, np.stack([np.arange(12.0), -np.arange(12.0)], axis=1))
    assert scores.seed.dtype == np.int64
    assert scores.settings().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_every_kind_of_source_is_the_same_table(tmp_path):
    table = pa.table(TABLE)
    expected = Scores.read(TABLE)
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "t.csv")
    coded = table.set_column(5, "metric", table.column("metric").dictionary_encode())
    chunks = pa.concat_tables([coded.slice(0, 5), coded.slice(5)])
    for source in (table, chunks, tmp_path / "t.parquet", str(tmp_path / "t.csv"), expected):
        assert equal(Scores.read(source), expected)


class Frame:
    """A table of another library, as pandas and Polars give theirs away."""

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.table(TABLE).__arrow_c_stream__(requested_schema)


def test_a_data_frame_is_a_source():
    assert equal(Scores.read(Frame()), Scores.read(TABLE))


def test_hyperparameter_value_and_run_may_be_absent_or_empty(tmp_path):
    short = {name: TABLE[name] for name in ("data_set", "objective", "seed", "metric", "score")}
    kept = [i for i, value in enumerate(TABLE["value"]) if value == "2"]
    short = {name: [column[i] for i in kept] for name, column in short.items()}
    assert Scores.read(short).run.tolist() == ["a vae0 0", "a vae0 1", "a vae1 0", "a vae1 1"]
    assert set(Scores.read(short).value) == {""}
    pyarrow.csv.write_csv(pa.table({**short, "value": [None] * len(kept)}), tmp_path / "t.csv")
    assert equal(Scores.read(tmp_path / "t.csv"), Scores.read(short))
    assert set(Scores.read({**short, "value": ["1", None] * (len(kept) // 2)}).value) == {"1", ""}


def test_values_are_in_the_order_of_numbers_and_text_after_them():
    words = ["16", "2", "auto", "4,0.5", "4,0.01", "0.001"]
    table = {"data_set": ["a"] * 6, "objective": ["o"] * 6, "value": words, "seed": [0] * 6}
    scores = Scores.read({**table, "metric": ["m"] * 6, "score": [0.0] * 6})
    assert scores.value.tolist() == ["0.001", "2", "4,0.01", "4,0.5", "16", "auto"]
    scores = Scores.read({**table, "value": [16, 2, 1, 4, 8, 0.1], "metric": ["m"] * 6, "score": [0] * 6})
    assert scores.value.tolist() == ["0.1", "1", "2", "4", "8", "16"]
    assert [number_text(each) for each in (4, 4.0, 1e-4, 0.1 + 0.2, 1234567)] == [
        "4", "4", "0.0001", "0.30000000000000004", "1234567",
    ]  # fmt: skip


def test_absent_empty_and_infinite_scores_are_missing():
    table = flat({"x": [1.0, 2.0, math.inf], "y": [math.nan, 5.0, 6.0]})
    table["score"][1] = None
    del table["score"][-1]
    scores = Scores.read({name: column[: len(table["score"])] for name, column in table.items()})
    np.testing.assert_array_equal(scores.scores, [[1, math.nan], [math.nan, 5], [math.nan, math.nan]])


def wrong(**changes):
    return {**flat({"x": [1.0, 2.0]}), **changes}


NEEDED = "data_set, objective, seed, metric, score"
TWO_ROWS = "scores must have one row for a run and metric, got 2 for 'a vae0 beta 1 0', 'x'"
MISTAKES = [
    (
        3,
        "scores must be a pyarrow.Table, a DataFrame, a mapping of columns or the path of a .parquet or .csv file, "
        "got int 3",
    ),
    ({"a": [1]}, f"scores must have the columns {NEEDED}; missing: {NEEDED}"),
    ({name: column[:0] for name, column in wrong().items()}, "scores must have rows, got none"),
    (wrong(score=["1", "2"]), "scores must have numbers in the column score, got string"),
    (wrong(seed=["0", "1"]), "scores must have numbers in the column seed, got string"),
    (wrong(seed=[0, 1.5]), "scores must have whole numbers in the column seed, got 1.5"),
    (wrong(seed=[None, 1]), "scores must have whole numbers in the column seed, got None"),
    (wrong(data_set=["a", None]), "scores must have text in the column data_set, got 1 empty cells"),
    (wrong(metric=[True, False]), "scores must have text in the column metric, got bool True"),
    (wrong(seed=[0, 0]), TWO_ROWS),
    (wrong(run=["r", "r"], metric=["x", "y"]), "scores must have one seed for a run, got two for 'r'"),
    (
        wrong(run=["r", "r"], seed=[1, 1], metric=["x", "y"], value=["1", "2"]),
        "scores must have one value for a run, got two for 'r'",
    ),
]


@pytest.mark.parametrize(
    ("source", "message"), MISTAKES, ids=lambda value: value[:40] if isinstance(value, str) else ""
)
def test_a_wrong_table_is_one_line(source, message):
    with pytest.raises(MistakeError) as caught:
        distributions(source)
    assert str(caught.value) == f"distributions: {message}"


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "t.parquet").write_text("no")
    for source in (tmp_path / "t.parquet", tmp_path / "none.csv", {"score": [1, "a"]}, {"a": [1], "b": [1, 2]}):
        with pytest.raises(MistakeError, match=r"^distributions: scores cannot be read: .+$") as caught:
            distributions(source)
        assert "\n" not in str(caught.value)


def test_seeds_may_be_as_large_as_int64():
    table = flat({"x": [1.0, 2.0]})
    assert Scores.read({**table, "seed": [2**62 + 1, 2**62]}).seed.tolist() == [2**62, 2**62 + 1]
    with pytest.raises(MistakeError, match="numbers below 2\\^63 in the column seed"):
        Scores.read({**table, "seed": pa.array([2**63, 1], pa.uint64())})


def test_the_example_of_the_page_runs(capsys):
    page = Path(__file__).parents[3] / "docs" / "study" / "analysis.md"
    (code,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    exec(code, {})
    assert "'metric_a': 'mig', 'metric_b': 'sap', 'models': 4, 'correlation': 0.8" in capsys.readouterr().out
