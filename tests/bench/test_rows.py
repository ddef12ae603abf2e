"""CSVs of measurements."""

from __future__ import annotations

from bench.rows import append, commit, read


def test_rows_replace_older_ones_of_the_same_identity(tmp_path):
    path, columns, identity = tmp_path / "new" / "rows.csv", ("op", "size", "time"), ("op", "size")
    path.parent.mkdir()
    for size, time in (("1", "a"), ("2", "b"), ("1", "c")):
        append([{"op": "x", "size": size, "time": time}], path, columns, identity)
    assert [(row["size"], row["time"]) for row in read(path)] == [("2", "b"), ("1", "c")]
    assert [file.name for file in path.parent.iterdir()] == ["rows.csv"]


def test_the_commit_can_be_named(monkeypatch):
    monkeypatch.setenv("DISENTANGLE_EXT_COMMIT", "1234abc")
    monkeypatch.setenv("PATH", "")
    assert commit() == "1234abc"
    monkeypatch.delenv("DISENTANGLE_EXT_COMMIT")
    assert commit() == "unknown"
