"""``python -m disentangle_ext.data check``: whether the published files in the cache are whole."""

from __future__ import annotations

from pathlib import Path

from disentangle_ext._names import choose
from disentangle_ext._program import Parser, launch, outcome
from disentangle_ext.data.cache import cache_folder
from disentangle_ext.data.official import find, is_checkable, problem_of
from disentangle_ext.data.published import FILES, Source


def main(arguments: list[str] | None = None) -> int:
    """Print a line for every published file and return the exit code."""
    return outcome("data", lambda: _check(arguments))


def _check(arguments: list[str] | None) -> int:
    parser = Parser(
        prog="python -m disentangle_ext.data",
        description="Compare the published files in the cache with their checksums.",
        epilog="Exit codes: 0 all that is there is right, 1 something is wrong, 2 a mistake in the call, 130 "
        "interrupted, 141 printed into a pipe that is closed.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="say of each published file whether it is there, and right")
    check.add_argument("sets", nargs="*", metavar="SET", help=f"the data sets, of {', '.join(FILES)}; default: all")
    call = parser.read(arguments)
    for name in call.sets:
        choose("data: data set", name, FILES)
    return check_files(call.sets or list(FILES))


def check_files(names: list[str]) -> int:
    """The files of the data sets, one a line; 1 if one of them is wrong."""
    sources = [(name, source) for name in names for source in FILES[name]]
    width = max(len(source.file) for _, source in sources)
    wrong = False
    for name, source in sources:
        path = find(cache_folder() / name, source)
        problem = "" if path is None else _problem(path, source)
        wrong = wrong or bool(problem)
        state = "absent" if path is None else f"{_size(path)}, {problem or _state(path, source)}"
        print(f"{name:<9}  {source.file if path is None else path.name:<{width}}  {state}", flush=True)
    return int(wrong)


def _problem(path: Path, source: Source) -> str:
    try:
        problem = problem_of(path, source) if is_checkable(path, source) else ""
    except OSError as error:
        return f"wrong: it cannot be read: {error.strerror}"
    return problem and f"wrong: it {problem}"


def _state(path: Path, source: Source) -> str:
    if is_checkable(path, source):
        return "right"
    return "no checksum is published" if source.checksum is None else "unpacked, no checksum is published"


def _size(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


if __name__ == "__main__":
    launch(main)
