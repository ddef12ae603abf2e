"""``python -m disentangle_ext.data``."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from disentangle_ext.data import __main__ as program
from disentangle_ext.data.published import FILES

TOY, REALISTIC, REAL, COMPLEX = (source.file for source in FILES["mpi3d"])


@pytest.fixture
def run(capsys):
    """The exit code, and the columns of each line."""

    def run(*arguments):
        code = program.main(list(arguments))
        out, err = capsys.readouterr()
        assert err == ""
        return code, [line.split(maxsplit=2) for line in out.splitlines()]

    return run


@pytest.fixture
def put(cache, monkeypatch):
    """Puts a file into the cache, whose checksum is published where it is said to be that of a name."""

    def put(name, content, published_as=None):
        folder = cache / "mpi3d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        sources = [replace(each, checksum=checksum) if each.file == published_as else each for each in FILES["mpi3d"]]
        monkeypatch.setitem(FILES, "mpi3d", tuple(sources))

    return put


def test_an_empty_cache_has_nothing_wrong(run):
    code, lines = run("check")
    assert code == 0
    assert [line[0] for line in lines] == [name for name, sources in FILES.items() for _ in sources]
    assert {line[2] for line in lines} == {"absent"}


def test_what_is_there_is_told_right_from_wrong(run, put):
    put(TOY, b"toy", TOY)
    put(COMPLEX, b"four")
    expected = [["mpi3d", TOY, "3 B, right"], ["mpi3d", REALISTIC, "absent"], ["mpi3d", REAL, "absent"]]
    expected.append(["mpi3d", COMPLEX, "4 B, no checksum is published"])
    assert run("check", "mpi3d") == (0, expected)
    put(REALISTIC, b"toy")
    put(REAL, b"x" * 25_000)
    code, lines = run("check", "mpi3d", "shapes3d")
    assert code == 1
    assert lines[0][2] == "3 B, right"
    assert lines[1][2].startswith("3 B, wrong: it has MD5 ")
    assert lines[1][2].endswith(f"expected 59a6225b88b635365f70c91b3e52f70f: it is {TOY}")
    assert lines[2][2].startswith("25.0 kB, wrong: it has MD5 ")
    assert lines[2][2].endswith(": it is damaged, incomplete or not the published file")
    assert lines[4] == ["shapes3d", "3dshapes.h5", "absent"]


def test_an_unpacked_file_has_no_checksum_of_its_own(run, cache):
    folder = cache / "smallnorb"
    folder.mkdir(parents=True)
    (folder / FILES["smallnorb"][0].file.removesuffix(".gz")).write_bytes(b"a")
    code, lines = run("check", "smallnorb")
    assert code == 0
    assert lines[0][1:] == [FILES["smallnorb"][0].file.removesuffix(".gz"), "1 B, unpacked, no checksum is published"]


def test_a_file_that_cannot_be_read_is_wrong(run, put, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", "x")

    put(TOY, b"toy", TOY)
    monkeypatch.setattr(program, "problem_of", refused)
    code, lines = run("check", "mpi3d")
    assert code == 1
    assert lines[0][2] == "3 B, wrong: it cannot be read: Permission denied"


@pytest.mark.parametrize("call", [[], ["check", "mpi3"], ["check", "--all"], ["verify"]])
def test_a_mistake_in_the_call_is_2(call, capsys):
    assert program.main(call) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("data: ")
    assert call != ["check", "mpi3"] or line.endswith(
        "unknown data set 'mpi3': did you mean 'mpi3d'? known: cars3d, dsprites, mpi3d, shapes3d, smallnorb"
    )
