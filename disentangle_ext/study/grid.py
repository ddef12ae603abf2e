"""The grid file of a study: which runs there are to be.

A grid file is YAML::

    base: {data: dsprites_like, quick: true}      # settings of every run: options of train, a preset or quick
    grid:                                         # blocks; each is the product of its lists
      - {model: beta_vae, beta: [1, 4, 8, 16]}
      - {model: [vae, ae]}
    seeds: 3                                      # 0, 1 and 2; or a list
    metrics: [mig, sap]                           # names of evaluate --metrics; default: all that are not slow

An option whose value is itself a list, as ``betas``, is varied by a list of lists. ``grid`` may also be several lists
of blocks by name, each block of one then with each block of the others::

    grid:
      sets: [{data: [dsprites, cars3d]}, {data: dsprites, data_effect: [color, noisy]}]
      objectives: [{model: beta_vae, beta: [1, 4]}, {model: factor_vae, gamma: [10, 20]}]

A run has one thread unless ``threads`` says otherwise: a study has a run for every core, and its scores are then the
same bits whatever engine computes them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._names import choose
from disentangle_ext.metrics.suite import SUITE
from disentangle_ext.runs.config import TrainConfig, resolve
from disentangle_ext.runs.options import coerce
from disentangle_ext.runs.presets import recipe
from disentangle_ext.study.run import Run

__all__ = ["MOST_RUNS", "Grid", "grid_files", "read_grid"]

MOST_RUNS = 1_000_000
"""The most runs of a study. A file system has about as many inodes for one user as 20 files a run would need."""

_KEYS = ("base", "grid", "seeds", "metrics")
_RECIPES = ("quick", "preset")
_BLOCKS = "must be a list of blocks (- {model: ...})"
_SHIPPED = Path(__file__).parent / "grids"


@dataclass(frozen=True)
class Grid:
    """What a grid file says.

    Attributes:
        text: the file, as it was read.
        runs: the runs, in the order of the blocks, a seed after the other.
        metrics: the metrics that every run is scored by.
    """

    text: str
    runs: tuple[Run, ...]
    metrics: tuple[str, ...]


def grid_files() -> dict[str, Path]:
    """The grid files in the package, by name."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("*.yaml"))}


def read_grid(name: str) -> Grid:
    """Read a grid file.

    Args:
        name: its path, or the name of one in the package: "quick", "locatello", "chen".

    Raises:
        MistakeError: for a file that is not there or no grid, with the line at fault: "study: grid.yaml, line 3: lr
            must be a float, got 'fast'".
    """
    shipped = grid_files()
    path = shipped.get(name, Path(name))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        known = f"; in the package there are: {', '.join(shipped)}" if isinstance(error, FileNotFoundError) else ""
        raise MistakeError(f"study: cannot read GRID {path}: {reason}{known}") from None
    return _Reader(_Lines(str(path), text), text).read()


class _Node(NamedTuple):
    """A value of the file, and the line where it stands."""

    value: Any
    line: int


class _Block(NamedTuple):
    """A block of the grid: the values of every option, and the line it begins at."""

    line: int
    axes: dict[str, list[_Node]]


def _size(block: _Block) -> int:
    return math.prod(map(len, block.axes.values()))


class _Lines:
    """A YAML file of which every mapping is a dict of :class:`_Node`."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._yaml = require("yaml", extra="train", what="study")
        try:
            root = self._yaml.compose(text, Loader=self._yaml.SafeLoader)
            self.root = _Node({}, 1) if root is None else self._convert(root)
        except self._yaml.YAMLError as error:
            raise MistakeError(f"study: GRID {name} is no YAML: {' '.join(str(error).split())}") from None
        except RecursionError:
            raise MistakeError(f"study: GRID {name} is no YAML: it is nested too deeply") from None

    def _convert(self, node: Any) -> _Node:
        line = node.start_mark.line + 1
        if isinstance(node, self._yaml.MappingNode):
            pairs = [(str(key.value).replace("-", "_"), key.start_mark.line + 1, value) for key, value in node.value]
            entries: dict[str, _Node] = {}
            for key, at, value in pairs:
                if key in entries:
                    raise self.error(at, f"{key} is given twice")
                entries[key] = _Node(self._convert(value).value, at)
            return _Node(entries, line)
        if isinstance(node, self._yaml.SequenceNode):
            return _Node([self._convert(each) for each in node.value], line)
        loader = self._yaml.SafeLoader("")
        try:
            return _Node(loader.construct_object(node), line)
        except (ValueError, KeyError, OverflowError) as error:  # a day that there is not, !!int of a word
            raise self.error(line, f"{node.value} cannot be read: {error}") from None

    def error(self, line: int, what: str) -> MistakeError:
        return MistakeError(f"study: {self.name}, line {line}: {what}")


class _Reader:
    def __init__(self, lines: _Lines, text: str) -> None:
        self._lines = lines
        self._text = text
        self._seen: dict[str, int] = {}

    def read(self) -> Grid:
        """Read the whole file."""
        root = self._mapping(self._lines.root, "a grid file")
        for key, node in root.items():
            self._choose(node.line, "key", key, _KEYS)
        if "grid" not in root:
            raise self._lines.error(1, f"grid is not given; the keys are: {', '.join(_KEYS)}")
        base = self._mapping(root["base"], "base") if "base" in root else {}
        for key, node in base.items():
            self._check_option(key, node.line, "base")
        seeds = self._seeds(root.get("seeds", _Node(1, 1)))
        lists = self._lists(root["grid"])
        count = math.prod(sum(map(_size, blocks)) for blocks in lists) * len(seeds)
        if count > MOST_RUNS:
            raise self._lines.error(root["grid"].line, f"grid has {count:,} runs, and must have at most {MOST_RUNS:,}")
        runs = tuple(run for blocks in itertools.product(*lists) for run in self._runs(base, blocks, seeds))
        return Grid(self._text, runs, self._metrics(root.get("metrics")))

    def _mapping(self, node: _Node, what: str) -> dict[str, _Node]:
        if not isinstance(node.value, dict):
            raise self._lines.error(node.line, f"{what} must be a mapping, got {_plain(node.value)!r}")
        return node.value

    def _lists(self, grid: _Node) -> list[list[_Block]]:
        """The lists of blocks, of which each block goes with each of the others."""
        named = grid.value if isinstance(grid.value, dict) and grid.value else {"grid": grid}
        if isinstance(grid.value, dict) and not any(map(_has_block, named.values())):
            got = f"a mapping with the keys {', '.join(named)}" if grid.value else "{}"
            raise self._lines.error(grid.line, f"grid {_BLOCKS}, got {got}")
        for name, node in named.items():
            if not (isinstance(node.value, list) and node.value):
                raise self._lines.error(node.line, f"{name} {_BLOCKS}, got {_plain(node.value)!r}")
        return [[self._block(each) for each in node.value] for node in named.values()]

    def _block(self, block: _Node) -> _Block:
        axes = {}
        for key, node in self._mapping(block, "a block of grid").items():
            if node.value == []:
                raise self._lines.error(node.line, f"{key} must have at least one value, got []")
            self._check_option(key, node.line, "a block")
            values = node.value if isinstance(node.value, list) else [node.value]
            axes[key] = [_Node(_plain(value), node.line) for value in values]
        return _Block(block.line, axes)

    def _check_option(self, key: str, line: int, where: str) -> None:
        if key in ("seed", *_KEYS):
            raise self._lines.error(line, f"{key} must not be in {where}: the key 'seeds' chooses the seeds")

    def _seeds(self, node: _Node) -> Sequence[int]:
        given = _plain(node.value)
        if _is_seed(given) and given > 0:
            return range(given)
        if not (isinstance(given, list) and given and all(map(_is_seed, given))):
            what = "seeds must be how many, or a list of integers from 0 on and below 2^63"
            raise self._lines.error(node.line, f"{what}, got {given}")
        return given

    def _metrics(self, node: _Node | None) -> tuple[str, ...]:
        if node is None:
            return tuple(name for name, entry in SUITE.items() if not (entry.slow or entry.cyclic))
        names = _plain(node.value)
        if not (isinstance(names, list) and names):
            raise self._lines.error(node.line, f"metrics must be a list of names, got {names!r}")
        for name in names:
            self._choose(node.line, "metric", str(name), tuple(SUITE))
        return tuple(dict.fromkeys(names))

    def _runs(self, base: Mapping[str, _Node], blocks: Sequence[_Block], seeds: Sequence[int]) -> Iterator[Run]:
        axes: dict[str, list[_Node]] = {}
        for block in blocks:
            for key in block.axes.keys() & axes.keys():
                raise self._lines.error(block.axes[key][0].line, f"{key} is in line {axes[key][0].line} already")
            axes.update(block.axes)
        line = blocks[-1].line
        for values in itertools.product(*axes.values()):
            nodes = {**base, **dict(zip(axes, values))}
            first = self._resolve(nodes, line)
            for seed in seeds:
                run = Run(dataclasses.replace(first, seed=seed))
                if run.name in self._seen:
                    raise self._lines.error(line, f"run {run.name} is in line {self._seen[run.name]} already")
                self._seen[run.name] = line
                yield run

    def _resolve(self, nodes: Mapping[str, _Node], block: int) -> TrainConfig:
        stated = {key: node.value for key, node in nodes.items() if key not in _RECIPES}
        quick, preset = (nodes[key].value if key in nodes else None for key in _RECIPES)
        try:
            settings = {**recipe(coerce(quick or False, bool, "quick"), preset, stated), **stated}
            # Not the default of train, as many as there are cores: a study has a run for each of them.
            return resolve({"threads": 1, **settings, "seed": 0}, source="study")
        except MistakeError as error:
            raise self._lines.error(self._line_of(str(error), nodes, block), _bare(str(error))) from None

    def _line_of(self, message: str, nodes: Mapping[str, _Node], block: int) -> int:
        """The line of the first option that a message names; that of the block if it names none."""
        words = re.findall(r"\w+", message)
        return next((nodes[word].line for word in words if word in nodes), block)

    def _choose(self, line: int, kind: str, name: str, known: Iterable[str]) -> None:
        try:
            choose(kind, name, known)
        except MistakeError as error:
            raise self._lines.error(line, str(error)) from None


def _is_seed(value: Any) -> bool:
    """Whether it is what the plan, which is a table, can hold as a seed."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _has_block(node: _Node) -> bool:
    """Whether it is a list with a block in it; the values of a block that stands alone are none."""
    return isinstance(node.value, list) and any(isinstance(each.value, dict) for each in node.value)


def _plain(value: Any) -> Any:
    """The value without the lines."""
    if isinstance(value, _Node):
        return _plain(value.value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _bare(message: str) -> str:
    """A message of ``resolve`` or ``recipe`` without the name of its program."""
    return re.sub(r"^(study|train): ", "", message)
