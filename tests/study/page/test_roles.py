"""Scores by what they are: nothing that training logs counts as a metric of disentanglement."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import disentangle_ext.objectives
from disentangle_ext.metrics.suite import SUITE
from disentangle_ext.study.page.roles import Roles

OBJECTIVES = Path(disentangle_ext.objectives.__file__).parent


def keys(node: ast.AST) -> Iterator[str]:
    """The keys of the dictionaries in a piece of code: of f"tc_{estimator}" what is known, and an x."""
    for each in ast.walk(node):
        for key in each.keys if isinstance(each, ast.Dict) else ():
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value
            elif isinstance(key, ast.JoinedStr) and isinstance(key.values[0], ast.Constant):
                yield f"{key.values[0].value}x"


def logged() -> set[str]:
    """The names that objectives give to terms of their loss, and to what they measure besides."""
    names = {"loss", "elbo", "adversary"}
    for path in OBJECTIVES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_loss = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Loss"
            if is_loss or (isinstance(node, ast.FunctionDef) and node.name == "measure"):
                names.update(keys(node))
    return names


def test_what_training_logs_is_an_unsupervised_score() -> None:
    names = logged()
    assert {"reconstruction", "kl", "capacity_gap", "tc_x", "mmd", "dimwise_kl", "total_correlation", "scale"} <= names
    assert Roles.of(names).metrics == ()


def test_a_score_has_a_better_end_only_where_it_is_known() -> None:
    roles = Roles.of({*SUITE, *logged(), "mine", "udr", "downstream_100", "tc_mws"})
    lower = {"gaussian_total_correlation", "wasserstein_correlation", "mutual_information_score", "reconstruction"}
    assert set(roles.lower_is_better) == lower
    assert set(roles.directed) == {*SUITE, *lower, "elbo", "udr", "downstream_100"} - {"active_units"}


def test_metrics_without_factors_are_unsupervised_scores() -> None:
    roles = Roles.of(SUITE)
    assert set(roles.unsupervised) == {name for name in SUITE if "factors" not in SUITE[name].inputs}
    assert {"active_units", "gaussian_total_correlation"} <= set(roles.unsupervised)
    assert roles.downstream == ("downstream",)
    assert roles.metrics[:3] == ("beta_vae_score", "factor_vae_score", "mig")


@pytest.mark.parametrize(
    ("names", "main"), [(["sap", "mig"], "mig"), (["mine", "kl"], "mine"), (["kl"], "kl"), (["kl", "elbo"], "elbo")]
)
def test_runs_are_compared_by_mig_or_what_there_is(names: list[str], main: str) -> None:
    assert Roles.of(names).main() == main


def test_accuracies_are_in_the_order_of_their_labels() -> None:
    names = ["downstream_1000", "downstream", "downstream_10", "downstream_100"]
    assert Roles.of(names).downstream == ("downstream_10", "downstream_100", "downstream_1000", "downstream")
