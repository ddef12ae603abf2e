"""The page of recipes says of every setting of a paper where it was read."""

from __future__ import annotations

import pytest

from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.presets import PRESETS
from studies import recipes


@pytest.mark.parametrize("model", sorted(recipes.SOURCES))
def test_a_source_states_settings_that_the_preset_has(model: str) -> None:
    stated = {name for source in recipes.SOURCES[model] for name in source.settings}
    own = recipes.settings_of(f"paper/{model}").keys() | ({"lambda_d"} if model.startswith("dip_vae") else set())
    assert stated <= own


def test_a_setting_is_read_or_from_memory() -> None:
    rows = {line.split(" | ")[0]: line for line in recipes.paper_table().splitlines()[2:]}
    assert len(rows) == len(OBJECTIVES)
    for preset, row in rows.items():
        _, stated, read, remembered = (cell.strip(" |") for cell in row.split(" | "))
        for name in recipes.settings_of(preset.strip("| `")):
            assert f"{name} " in stated
            assert (name in read) != (name in remembered.split(", ")), (preset, name)


def test_the_study_has_six_models_and_what_they_share() -> None:
    assert "batch_size 64" in recipes.shared_settings()
    assert "max_steps 300,000" in recipes.shared_settings()
    assert "`locatello/factor_vae` | gamma | 10, 20, 30, 40, 50, 100 | max_steps 150,000, second_batch False |" in (
        recipes.study_table()
    )
    assert all(name.split("/")[0] in ("locatello", "paper") for name in PRESETS)
