"""Imports fall one way: what is above knows what is below, and never the other way round."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import disentangle_ext

ROOT = Path(disentangle_ext.__file__).parent
FLOORS = (
    ("ops",),
    ("data", "models"),
    ("metrics", "objectives"),
    ("runs",),
    ("engine",),
    ("report",),
    ("scoring", "training"),
    ("study",),
    ("train", "evaluate", "doctor"),
)
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def rooms_that(path: Path) -> Iterator[str]:
    """The rooms that a file imports from, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "disentangle_ext":
            below = (node.module or "").split(".")[1:]
            yield from below[:1] or [each.name for each in node.names]
        elif isinstance(node, ast.Import):
            yield from (each.name.split(".")[1] for each in node.names if each.name.startswith("disentangle_ext."))


def test_imports_fall_one_way() -> None:
    climbing = []
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room == "__init__":  # the whole house, by name, when it is asked for
            continue
        for other in rooms_that(path):
            if other != room and other in HEIGHT and HEIGHT[other] >= HEIGHT.get(room, -1):
                climbing.append(f"{path.relative_to(ROOT)} imports {other}")
    assert climbing == []


def test_every_room_has_a_floor() -> None:
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()}
    programs = {path.stem for path in ROOT.glob("*.py") if not path.stem.startswith("_")}
    assert rooms | programs == set(HEIGHT)
