"""From run folders to tables: which runs there are, and all of their scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics import downstream, udr
from disentangle_ext.runs.checkpoint import save_tensors
from disentangle_ext.study.__main__ import main
from disentangle_ext.study.analysis import Scores
from disentangle_ext.study.records import LONG_TABLE, Collected, collect, long_table, query, run_folders
from disentangle_ext.study.run_scores import read_run_scores
from tests.study.faked import run, study

MIG: dict[str, Any] = {
    "of": "a run",
    "score": 0.25,
    "settings": {"num_bins": 20, "shuffle": True, "seed": None},
    "interval": {"low": 0.2, "high": 0.3},
    "gaps": {"shape": 0.5, "scale": None},
    "mutual_information": [[1.0, 2.0]],
    "seconds": 1.5,
}


def rows(collected: Collected, run: str | None = None) -> dict[tuple[str, str], float]:
    return {
        (row["metric"], row["part"]): row["value"]
        for row in collected.records.to_pylist()
        if run is None or row["run"] == run
    }


def test_numbers_become_rows_and_nothing_else_does(tmp_path: Path) -> None:
    failed = {"score": None, "reason": "lsbd: factors must be on a circle", "seconds": 0.0}
    run(tmp_path / "a", {"mig": MIG, "lsbd": failed}, terms={"loss": 30.0, "reconstruction": 20.0, "kl": 2.5})
    assert rows(collect([tmp_path / "a"])) == {
        ("loss", "score"): 30.0,
        ("reconstruction", "score"): 20.0,
        ("kl", "score"): 2.5,
        ("elbo", "score"): -22.5,
        ("mig", "score"): 0.25,
        ("mig", "settings.num_bins"): 20.0,
        ("mig", "interval.low"): 0.2,
        ("mig", "interval.high"): 0.3,
        ("mig", "gaps.shape"): 0.5,
        ("mig", "seconds"): 1.5,
    }


@pytest.mark.parametrize(
    ("terms", "elbo"),
    [
        ({"reconstruction": 20.0, "mi_mss": 3.0, "tc_mss": -1.0, "dwkl_mss": 0.5}, -22.5),
        ({"reconstruction": 20.0, "kl": 1.0, "tc_mws": 37.0}, -21.0),
        ({"reconstruction": 20.0, "mmd": 1.0}, None),
    ],
    ids=["the KL in three terms", "a term beside the KL", "no KL"],
)
def test_the_elbo_takes_the_kl_that_the_objective_logs(
    tmp_path: Path, terms: dict[str, float], elbo: float | None
) -> None:
    scores = read_run_scores(run(tmp_path / "a", terms=terms))
    assert scores.get("elbo") == (None if elbo is None else {"score": elbo})


def test_the_accuracy_at_each_number_of_labels_is_a_metric(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, 3, 600), np.zeros(600, int)], axis=1)
    codes = factors[:, :1] + rng.normal(size=(600, 2))
    result = downstream(codes, factors, train_sizes=(10, 100), shuffle=False)
    scores = read_run_scores(run(tmp_path / "a", {"downstream": result.as_dict()}))
    assert scores["downstream_10"] == {"score": pytest.approx(result.curve[0, 0])}
    assert scores["downstream_100"] == {"score": pytest.approx(result.score)}
    assert scores["downstream"]["score"] == result.score


def test_a_run_that_was_never_evaluated_has_the_scores_of_training(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    own = {"points": 100, "kl_per_latent": [1.0], "mig": {"score": 0.5}}
    (folder / "scores.json").write_text(json.dumps(own))
    collected = collect([folder])
    assert collected.runs.column("state").to_pylist() == ["done"]
    assert rows(collected) == {("mig", "score"): 0.5}
    (folder / "evaluation.json").write_text(json.dumps({"metrics": {"mig": MIG}}))
    assert rows(collect([folder]))["mig", "score"] == 0.25


DAMAGED = {
    "evaluation.json cut short": ("evaluation.json", '{"metrics": {"mig": {"sc', "evaluation.json is damaged"),
    "another evaluation.json": ("evaluation.json", "[1]", "evaluation.json is damaged"),
    "metrics that are none": ("evaluation.json", '{"metrics": 3}', "it must hold a mapping, got a int"),
    "a score beyond all": ("evaluation.json", '{"metrics": {"mig": {"score": 1%s}}}' % ("0" * 400), "mig has no parts"),
    "a curve that is none": (
        "evaluation.json",
        '{"metrics": {"downstream": {"score": 1, "curve": 3, "train_sizes": [1]}}}',
        "downstream has no parts",
    ),
    "no curve": ("evaluation.json", '{"metrics": {"downstream": {"score": 1}}}', "downstream has no parts"),
    "metrics.jsonl cut short": ("metrics.jsonl", '{"step": 1}\n{"step": 2, "lo', "metrics.jsonl is damaged"),
    "metrics.jsonl empty": ("metrics.jsonl", "", "metrics.jsonl is damaged"),
    "scores.json cut short": ("scores.json", "{", "scores.json is damaged"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_damaged_costs_its_run_and_no_other(tmp_path: Path, case: str) -> None:
    name, content, said = DAMAGED[case]
    broken = run(tmp_path / "a", {"mig": MIG}, seed=1)
    run(tmp_path / "b", {"mig": MIG}, seed=2)
    (broken / name).write_text(content)
    collected = collect([tmp_path])
    (problem,) = collected.problems
    assert said in problem
    assert str(broken) in problem
    assert problem.endswith("; the run is left out")
    assert "\n" not in problem
    assert collected.runs.num_rows == 2
    assert set(collected.records.column("run").to_pylist()) == {collected.runs.column("run").to_pylist()[1]}


def test_a_configuration_that_cannot_be_read_costs_its_run_and_no_other(tmp_path: Path) -> None:
    (run(tmp_path / "a", seed=1) / "config.yaml").write_text("model: beta_vae\ndata: dgits\n")
    run(tmp_path / "b", {"mig": MIG}, seed=2)
    (run(tmp_path / "c", seed=3) / "config.yaml").write_text("{")
    collected = collect([tmp_path])
    assert collected.runs.num_rows == 1
    first, second = collected.problems
    assert first.startswith(f"study: {tmp_path / 'a' / 'config.yaml'}: unknown data set 'dgits'")
    assert str(tmp_path / "c") in second


def test_what_varies_is_found_in_any_folders(tmp_path: Path) -> None:
    for beta in (1, 4.5):
        for seed in (0, 7):
            run(tmp_path / "deep" / "er" / f"{beta}-{seed}", beta=beta, seed=seed)
    run(tmp_path / "other", model="vae", seed=3, is_done=False)
    (tmp_path / "deep" / "notes").mkdir()
    run(tmp_path / "other" / "copy of a run", seed=9)
    table = collect([tmp_path / "deep", tmp_path / "other"]).runs
    columns = ("data_set", "objective", "hyperparameter", "value", "seed", "state")
    assert [tuple(row[name] for name in columns) for row in table.to_pylist()] == [
        ("digits", "beta_vae", "beta", "1", 0, "done"),
        ("digits", "beta_vae", "beta", "1", 7, "done"),
        ("digits", "beta_vae", "beta", "4.5", 0, "done"),
        ("digits", "beta_vae", "beta", "4.5", 7, "done"),
        ("digits", "vae", "", "", 3, "stopped"),
    ]
    assert [Path(path) for path in table.column("path").to_pylist()] == run_folders([tmp_path])


def test_a_run_in_two_folders_is_taken_once_from_where_it_is_finished(tmp_path: Path) -> None:
    run(tmp_path / "a", is_done=False)
    run(tmp_path / "b", {"mig": MIG})
    run(tmp_path / "c", {"mig": {"score": 0.75}})
    collected = collect([tmp_path, tmp_path / "a"])
    assert collected.runs.column("path").to_pylist() == [str(tmp_path / "b")]
    assert rows(collected)["mig", "score"] == 0.25


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_run_in_two_folders_is_taken_from_the_one_with_the_most_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], order: str
) -> None:
    run(tmp_path / "a", terms={"loss": 30.0})
    run(tmp_path / "b", {"mig": MIG}, terms={"loss": 30.0})
    run(tmp_path / "damaged").joinpath("evaluation.json").write_text("{")
    run(tmp_path / "stopped", {"mig": MIG, "sap": MIG}, is_done=False)
    run(tmp_path / "other", {"mig": MIG}, seed=7)
    folders = [str(tmp_path / name) for name in ("damaged", "stopped", *order, "other")]
    assert main(["collect", *folders, "--output-dir", str(tmp_path / "out")]) == 0
    paths = query(tmp_path / "out", "SELECT path FROM runs ORDER BY path").column("path").to_pylist()
    assert paths == [str(tmp_path / "b"), str(tmp_path / "other")]
    assert "1 run in two folders or more: taken from the one with the most metrics\n" in capsys.readouterr().out
    assert main(["collect", *folders[3:], "--output-dir", str(tmp_path / "out")]) == 0
    assert "two folders" not in capsys.readouterr().out


def test_folders_without_a_run_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(MistakeError, match="study: RUN .* is no run folder, and has none in it"):
        collect([tmp_path])
    with pytest.raises(MistakeError, match="study: RUN must be a run folder or a folder of some, got .*none"):
        collect([tmp_path / "none"])


def test_a_study_has_its_runs_from_the_plan(tmp_path: Path) -> None:
    planned = study(tmp_path / "a", finished=5)
    collected = collect([planned.folder], planned.folder)
    table = collected.runs.to_pylist()
    assert [row["state"] for row in table] == ["done"] * 5 + ["waiting"] * 3
    assert collected.unfinished == {"waiting": 3}
    assert [row["run"] for row in table] == [each.name for each in planned.runs]
    assert {(row["objective"], row["hyperparameter"], row["value"]) for row in table} == {
        *(("beta_vae", "beta", value) for value in ("1", "4", "16")),
        ("vae", "", ""),
    }
    others = collect([planned.folder / "runs"])
    assert sorted(map(str, others.runs.to_pylist())) == sorted(map(str, table[:5]))
    assert rows(others, table[0]["run"]) == rows(collected, table[0]["run"])


def test_the_long_table_is_what_analyses_read_and_sql_has_it_too(tmp_path: Path) -> None:
    planned = study(tmp_path / "a")
    collected = collect([planned.folder], planned.folder)
    table = long_table(collected.runs, collected.records)
    assert table.equals(query(planned.folder, LONG_TABLE))
    names = "run data_set objective hyperparameter value seed metric score"
    assert table.column_names == names.split()
    read = Scores.read(table)
    assert len(read.run) == 8
    assert {"mig", "elbo", "downstream_100", "reconstruction"} <= set(read.metrics)
    migs = {row["run"]: row["score"] for row in table.to_pylist() if row["metric"] == "mig"}
    assert migs == {row["run"]: row["value"] for row in query(planned.folder, _MIGS).to_pylist()}


_MIGS = "SELECT run, value FROM scores WHERE metric = 'mig' AND part = 'score'"


@pytest.mark.parametrize("sql", ["SELEC", "SELECT nothing FROM runs", "FROM nowhere", ""])
def test_a_query_that_is_none_is_a_mistake_in_one_line(tmp_path: Path, sql: str) -> None:
    run(tmp_path / "a", {"mig": MIG})
    collect([tmp_path], tmp_path / "out")
    with pytest.raises(MistakeError) as caught:
        query(tmp_path / "out", sql)
    assert "\n" not in str(caught.value)
    with pytest.raises(MistakeError, match="has no runs.parquet and scores.parquet"):
        query(tmp_path, "FROM runs")


def with_codes(folder: Path, seed: int, rows: int = 200) -> np.ndarray:
    """Write codes of which one latent is dead, and return them."""
    rng = np.random.default_rng(seed)
    latents = np.random.default_rng(0).normal(size=(rows, 3))
    mu = latents[:, rng.permutation(3)] + 0.3 * seed * rng.normal(size=(rows, 3))
    codes = {"rows": torch.arange(rows), "mu": torch.tensor(mu), "logvar": torch.full((rows, 3), -3.0)}
    codes["mu"][:, 0], codes["logvar"][:, 0] = 1e-3 * codes["mu"][:, 0], 0.0
    codes["factors"] = torch.zeros(rows, 1)
    save_tensors(folder / "codes.safetensors", codes, {"model": "a", "images": rows})
    return codes["mu"].numpy()


def test_udr_compares_the_runs_of_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {
        (beta, seed): run(tmp_path / f"{beta}-{seed}", beta=beta, seed=seed) for beta in (1, 4) for seed in (1, 2, 3)
    }
    codes = {key: with_codes(folder, key[1]) for key, folder in runs.items() if key != (4, 3)}
    collected = collect([tmp_path], tmp_path / "out", with_udr=True)
    want = {
        str(runs[beta, seed]): value
        for beta, seeds in ((1, (1, 2, 3)), (4, (1, 2)))
        for seed, value in zip(
            seeds, udr([codes[beta, seed] for seed in seeds], kl=[[0.0, 1.0, 1.0]] * len(seeds)).models.tolist()
        )
    }
    path = dict(zip(*(collected.runs.column(name).to_pylist() for name in ("run", "path"))))
    found = {path[row["run"]]: row["value"] for row in collected.records.to_pylist() if row["metric"] == "udr"}
    assert found == pytest.approx(want)
    assert len(set(found.values())) > 2
    (problem,) = collected.problems
    assert str(runs[4, 3]) in problem

    # What is known stays without being computed, for the setting whose runs are all still there.
    monkeypatch.setattr("disentangle_ext.study.udr.udr", None)
    again = collect([tmp_path], tmp_path / "out")
    kept = {path[row["run"]]: row["value"] for row in again.records.to_pylist() if row["metric"] == "udr"}
    assert kept == {str(runs[1, seed]): found[str(runs[1, seed])] for seed in (1, 2, 3)}
    shutil.rmtree(runs[1, 3])
    fewer = collect([tmp_path], tmp_path / "out")
    assert "udr" not in fewer.records.column("metric").to_pylist()


def test_udr_needs_codes_of_the_same_images(tmp_path: Path) -> None:
    for seed, count in ((1, 200), (2, 150)):
        with_codes(run(tmp_path / str(seed), seed=seed), seed, count)
    collected = collect([tmp_path], with_udr=True)
    assert "udr" not in collected.records.column("metric").to_pylist()
    (problem,) = collected.problems
    assert "codes of other images" in problem
