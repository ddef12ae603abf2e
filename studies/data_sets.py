"""How fast the procedural data sets make a batch, and a picture of them: ``python -m studies.data_sets``."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import disentangle_ext
from bench import pages
from bench.rows import ABSENT, Row, append, commit, machine, read
from disentangle_ext.data import DSpritesLike, FacesLike, GroundTruthData, Shapes3DLike, TorusLike
from disentangle_ext.report import save_rows

PAGE = "README.md"
RESULTS = Path(__file__).parent / "results" / "data_sets.csv"
PICTURE = pages.ROOT / "docs" / "images" / "data_sets.png"
COLUMNS = ("set", "images", "image", "batch", "threads", "images_per_second", "machine", "torch", "commit")
IDENTITY = ("set", "batch", "threads", "machine")

SETS: dict[str, Callable[[], GroundTruthData]] = {
    "dsprites_like": DSpritesLike,
    "dsprites_like, preloaded": lambda: DSpritesLike().preload(),
    "dsprites_like, color": lambda: DSpritesLike(effect="color"),
    "dsprites_like, noisy": lambda: DSpritesLike(effect="noisy"),
    "dsprites_like, texture": lambda: DSpritesLike(effect="texture"),
    "shapes3d_like": Shapes3DLike,
    "faces_like": FacesLike,
    "torus_like": TorusLike,
}


def measure(sets: dict[str, GroundTruthData], *, batch: int, seconds: float) -> list[Row]:
    """A row for each set: the median time of a batch of random rows, as a model gets it. The sets take turns."""
    generator = torch.Generator().manual_seed(0)
    rows = {name: torch.randint(len(data), (16, batch), generator=generator) for name, data in sets.items()}
    taken: dict[str, list[float]] = {name: [] for name in sets}
    end = time.perf_counter() + seconds * len(sets)
    turn = 0
    while time.perf_counter() < end or turn < 6:
        for name, data in sets.items():
            start = time.perf_counter()
            data.batch(rows[name][turn % 16])
            taken[name].append(time.perf_counter() - start)
        turn += 1
    # The first turn is for warming up.
    return [_row(name, data, batch, batch / statistics.median(taken[name][1:])) for name, data in sets.items()]


def _row(name: str, data: GroundTruthData, batch: int, rate: float) -> Row:
    shape = " x ".join(map(str, data.image_shape))
    measured = (name, f"{len(data):,}", shape, batch, torch.get_num_threads(), f"{float(f'{rate:.3g}'):.0f}")
    where = (machine(), disentangle_ext.build_info()["torch_running"], commit())
    return dict(zip(COLUMNS, map(str, (*measured, *where)), strict=True))


def table(rows: list[Row]) -> str:
    """The rows as Markdown: one line for each set."""
    if not rows:
        return ABSENT
    threads = sorted({row["threads"] for row in rows})
    columns = [f"images/s, {count} thread{'s' if count != '1' else ''}" for count in threads]
    lines = [f"| set | images | C x H x W | {' | '.join(columns)} |", "|---|---|---|" + "---|" * len(threads)]
    groups: dict[str, dict[str, Row]] = {}
    for row in rows:
        groups.setdefault(row["set"], {})[row["threads"]] = row
    for name, own in groups.items():
        first = next(iter(own.values()))
        rates = [f"{int(own[count]['images_per_second']):,}" if count in own else "" for count in threads]
        lines.append(f"| `{name}` | {first['images']} | {first['image']} | {' | '.join(rates)} |")
    origins = sorted({f"{r['machine'].rsplit(',', 1)[0]}, torch {r['torch']}, batches of {r['batch']}" for r in rows})
    return "\n".join([*lines, "", "Medians; measured on " + "; ".join(origins) + "."]) + "\n"


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    return {"data-sets": table(read(RESULTS))}


def picture(path: Path = PICTURE, columns: int = 10) -> None:
    """Random images of each set, one row each."""
    rows = {}
    for name, make in SETS.items():
        if "preloaded" not in name:
            data = make()
            index = torch.randint(len(data), (columns,), generator=torch.Generator().manual_seed(4))
            rows[name] = data.images(index)
    save_rows(path, rows, title="Data sets made by formula", caption="Random images of each")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studies.data_sets", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="time spent on each set")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = measure({name: make() for name, make in SETS.items()}, batch=64, seconds=arguments.seconds)
    append(rows, RESULTS, COLUMNS, IDENTITY)
    for row in rows:
        print(f"{row['set']:<26} {int(row['images_per_second']):>9,} images/s")
    picture()
    pages.write(PAGE, tables())


if __name__ == "__main__":
    main()
