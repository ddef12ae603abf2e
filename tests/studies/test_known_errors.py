"""The numbers of docs/known_errors.md against what the codes that it names returned.

That they are those on the page is tested with all other tables, in test_tables.py.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from studies.known_errors import TABLES
from studies.known_errors.error import CODES, TESTS, Error
from studies.known_errors.losses import KERNELS, Kernel, share_of_ties
from studies.known_errors.metrics import mig_of_reshaped_samples, mig_of_samples

RECORDED = json.loads((Path(__file__).parent / "oracles" / "known_errors.json").read_text())["values"]
ERRORS = [error for errors in TABLES.values() for error in errors]
FLOAT32 = 5e-5  # of a code that computes in it

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("error", [e for e in ERRORS if e.recorded], ids=lambda each: each.recorded)
def test_an_error_made_here_gives_what_the_code_returned(error: Error) -> None:
    rows = RECORDED[error.recorded]
    assert not error.codes or {row["peer"] for row in rows} == set(error.codes)
    for row in rows:
        assert error.there() == pytest.approx(float(row["value"]), rel=error.tolerance, abs=1e-13, nan_ok=True)


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: f"{each.quantity}, {each.recorded}")
def test_it_is_an_error_that_shows(error: Error) -> None:
    there, instead = error.there(), error.instead()
    assert math.isfinite(instead)
    assert not math.isfinite(there) or abs(there - instead) > 0.01


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda each: each.recorded)
def test_an_option_gives_the_kernel_of_the_code(kernel: Kernel) -> None:
    rows = RECORDED[kernel.recorded]
    assert {row["peer"] for row in rows} == set(kernel.codes)
    for row in rows:
        assert kernel.value() == pytest.approx(row["value"], rel=FLOAT32 if row.get("float32") else 1e-9)


def test_what_is_recorded_is_used_and_what_is_named_is_recorded() -> None:
    used = [each.recorded for each in (*ERRORS, *KERNELS) if each.recorded]
    assert sorted(used) == sorted(RECORDED)
    # The samples of disvae's MIG were not recorded, so its value cannot be met.
    assert [e.what for e in ERRORS if e.codes and not e.recorded] == [
        "samples are reshaped where they should be transposed: a latent is scored by those of others"
    ]
    assert {name for each in (*ERRORS, *KERNELS) for name in each.codes} == set(CODES)


def test_reshaped_samples_spoil_a_perfect_code_in_the_code_and_here() -> None:
    stored = json.loads((TESTS / "metrics/oracles/aggregate_mig.json").read_text())["cases"]["g1_perfect"]
    assert mig_of_samples() == pytest.approx(stored["MIG"], abs=1e-5)
    assert stored["disvae"] < 0.6
    assert mig_of_reshaped_samples() < 0.6


@pytest.mark.parametrize("rows", [1024, 4096])
def test_float32_noise_has_as_many_ties_as_the_page_says(rows: int) -> None:
    noise = torch.rand(4000, rows, generator=torch.Generator().manual_seed(0)).sort().values
    share = float((noise.diff() == 0).any(1).double().mean())
    expected = share_of_ties(rows)
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000))


def test_numbers_stand_in_tables_only(root: Path) -> None:
    """A figure in the prose would not be computed."""
    text = (root / "docs" / "known_errors.md").read_text(encoding="utf-8")
    prose = re.sub(r"<!-- ([\w-]+): begin -->.*?<!-- \1: end -->", "", text, flags=re.DOTALL)
    assert re.findall(r"\d+\.\d+|\d+ %|\d,\d{3}", re.sub(r"appendix C\.2", "", prose)) == []


def test_a_line_of_the_table() -> None:
    error = Error("MI", "half", ("disent",), "one", lambda: 1234.5678, lambda: np.float64(0.00266), "nothing")
    assert error.line() == ["MI", "half", "disent", "one", "1,234.568", "0.00266", "nothing"]
    assert error._replace(there=lambda: math.nan, instead=lambda: -math.inf).line()[4:6] == ["NaN", "-inf"]
