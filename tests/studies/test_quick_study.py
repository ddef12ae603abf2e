"""The page of a study of 36 models: what it says comes from the folders that it is given."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from bench import pages
from disentangle_ext.runs.folder import EVALUATION
from studies import quick_study
from tests.study.faked import study


def test_the_page_has_the_figures_and_the_numbers_of_its_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = study(tmp_path / "one").folder
    shutil.copytree(one, two := tmp_path / "two")
    path = sorted(two.glob(f"runs/*/{EVALUATION}"))[0]
    content = json.loads(path.read_text())
    content["metrics"]["mig"]["score"] = math.nextafter(content["metrics"]["mig"]["score"], 2)
    path.write_text(json.dumps(content))
    root = tmp_path / "root"
    (root / "docs" / "study").mkdir(parents=True)
    (root / "docs" / "images").mkdir()
    shutil.copyfile(pages.ROOT / quick_study.PAGE, root / quick_study.PAGE)
    monkeypatch.setattr(pages, "ROOT", root)
    quick_study.main([str(one), str(one), str(two)])
    text = (root / quick_study.PAGE).read_text()
    for name in quick_study.FIGURES:
        assert (root / "docs" / "images" / f"study_{name}.png").read_bytes().startswith(b"\x89PNG")
    equal, changed = text.split("## Computed again")[1].strip().splitlines()[-3:-1]
    counts = [line.split(": ")[1].split(" runs, ")[1].split(" scores")[0] for line in (equal, changed)]
    shared, whole = counts[0].split(" of ")
    assert shared == whole
    assert counts[1] == f"{int(whole.replace(',', '')) - 1:,} of {whole}"
    assert "| models | 12,600 | " in text
