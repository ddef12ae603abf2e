"""Downloads, from a server on this machine: they come whole, checked and under their own name, or not at all."""

from __future__ import annotations

import errno
import hashlib
import shutil
import stat
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from disentangle_ext.data import DSprites, DSpritesLike, Shapes3D
from disentangle_ext.data import download as module
from disentangle_ext.data import dsprites as dsprites_module
from disentangle_ext.data.download import download
from disentangle_ext.data.published import FILES, Source
from tests.data.files import files_in, grid, save_npz

CONTENT = bytes(range(256)) * 40
GOOD = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Answers by path: with bytes, a status, or what a function of the handler sends. Remembers who asked."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                answer = outer.answers.get(self.path, 404)
                if callable(answer):
                    answer(self)
                elif isinstance(answer, int):
                    self.send_error(answer)
                else:
                    self.begin(len(answer))
                    self.wfile.write(answer)

            def begin(self, size):
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def source(self, *paths, checksum=GOOD, file="a.bin"):
        return Source(file, tuple(map(self.url, paths)), checksum)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    thread = threading.Thread(target=running.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.server.shutdown()
    thread.join()
    running.server.server_close()


def get(source, folder, **options):
    return download("test", source, folder, **{"verify": True, **options})


def breaks_off(handler):
    """A connection that is cut in the middle."""
    handler.begin(len(CONTENT))
    handler.wfile.write(CONTENT[:5000])


def test_a_file_comes_whole_and_is_shared_as_its_folder_is(server, tmp_path, capsys, caplog):
    server.answers["/a"] = CONTENT
    folder = tmp_path / "new" / "folder"
    folder.mkdir(parents=True)
    folder.chmod(0o750)
    path = get(server.source("/a"), folder)
    assert path == folder / "a.bin"
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert files_in(tmp_path) == [path]
    assert server.asked == ["/a"]
    assert (capsys.readouterr(), caplog.records) == (("", ""), [])


def test_the_progress_adds_up(server, tmp_path, monkeypatch):
    steps = []

    @contextmanager
    def progress(what, total):
        steps.append((what, total))
        yield steps.append

    monkeypatch.setattr(module, "progress", progress)
    server.answers["/a"] = CONTENT * 300
    get(server.source("/a", checksum=None), tmp_path)
    assert steps[0] == ("a.bin: downloading", len(CONTENT) * 300)
    assert sum(steps[1:]) == len(CONTENT) * 300
    assert len(steps) > 3


@pytest.mark.parametrize("first", [404, 503, breaks_off, b"<html>moved</html>"])
def test_the_next_address_is_tried(server, tmp_path, first):
    server.answers.update({"/a": first, "/b": CONTENT})
    assert get(server.source("/a", "/b"), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["/a", "/b"]
    assert [path.name for path in files_in(tmp_path)] == ["a.bin"]


def test_a_broken_download_starts_again(server, tmp_path):
    def recovers(handler):
        server.answers["/a"] = CONTENT
        breaks_off(handler)

    server.answers["/a"] = recovers
    assert get(server.source("/a"), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["/a", "/a"]


def test_a_failure_names_every_address_and_leaves_nothing(server, tmp_path):
    server.answers.update({"/cut": breaks_off, "/other": b"<html>moved</html>"})
    source = server.source("/none", "/cut", "/other")
    with pytest.raises(OSError, match="^test: cannot download a.bin: ") as caught:
        get(source, tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    none, cut, other = (f"{url}: " for url in source.mirrors)
    assert f"{none}404 Client Error" in text
    assert f"{cut}(" in text
    assert f"{other}SHA256 hash of downloaded file (a.bin) does not match the known hash: expected {GOOD}" in text
    assert files_in(tmp_path) == []
    # An address that sends another file would send it again.
    assert [server.asked.count(path) for path in ("/none", "/cut", "/other")] == [3, 3, 1]


def test_a_full_disk_is_told_as_one(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    server.answers["/a"] = CONTENT
    monkeypatch.setattr(shutil, "move", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        get(server.source("/a", "/a"), tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert files_in(tmp_path) == []
    assert len(server.asked) == 1


def test_without_verify_the_file_is_taken_as_it_is(server, tmp_path, capsys):
    server.answers["/a"] = b"something else"
    assert get(server.source("/a"), tmp_path, verify=False).read_bytes() == b"something else"
    assert capsys.readouterr() == ("", "")


def test_two_downloads_at_once_do_not_meet(server, tmp_path):
    """Both are half way when the first goes on."""
    both = threading.Barrier(2, timeout=30)

    def slow(handler):
        handler.begin(len(CONTENT))
        handler.wfile.write(CONTENT[:5000])
        handler.wfile.flush()
        both.wait()
        handler.wfile.write(CONTENT[5000:])

    server.answers["/a"] = slow
    found = []
    threads = [threading.Thread(target=lambda: found.append(get(server.source("/a"), tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "a.bin"] * 2
    assert found[0].read_bytes() == CONTENT
    assert files_in(tmp_path) == [found[0]]


def test_a_data_set_fetches_its_file_once(server, tmp_path, cache, monkeypatch):
    sizes = (3, 2, 4, 2, 2)
    monkeypatch.setattr(dsprites_module, "SIZES", sizes)
    images = DSpritesLike("official").sample_images(grid(*sizes))
    classes = [[0, *row] for row in grid(*sizes).tolist()]
    path = save_npz(tmp_path / "there.npz", imgs=images[:, 0].numpy() // 255, latents_classes=classes)
    checksum = "md5:" + hashlib.md5(path.read_bytes()).hexdigest()
    source = server.source("/a", checksum=checksum, file=dsprites_module.NPZ.file)
    server.answers["/a"] = path.read_bytes()
    monkeypatch.setattr(dsprites_module, "NPZ", source)
    with pytest.raises(FileNotFoundError, match=r"DSprites: there is no dsprites_.*: give path, or download=True"):
        DSprites()
    for _ in range(2):
        assert torch.equal(DSprites(download=True).images(range(96)), images)
    assert server.asked == ["/a"]
    assert (cache / "dsprites" / source.file).read_bytes() == path.read_bytes()


def test_a_data_set_says_why_it_has_no_file(server, monkeypatch):
    monkeypatch.setattr("disentangle_ext.data.shapes3d.HDF5", server.source("/none", file="3dshapes.h5"))
    with pytest.raises(OSError, match=f"Shapes3D: cannot download 3dshapes.h5: {server.url('/none')}: 404 Client"):
        Shapes3D(download=True)


def test_every_published_file_has_an_address_and_a_checksum_that_can_be_one():
    for source in (each for sources in FILES.values() for each in sources):
        assert bool(source.mirrors) != bool(source.page)
        assert all(url.endswith(f"/{source.file}") for url in source.mirrors)
        assert (source.checksum is None) == (source.witnesses == 0)
        kind, digest = (source.checksum or "md5:" + "0" * 32).split(":")
        assert len(bytes.fromhex(digest)) == hashlib.new(kind).digest_size


def test_the_table_of_the_documents_says_who_confirms_each_checksum():
    table = (Path(__file__).parents[2] / "docs" / "api" / "data.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in table.splitlines() if line.startswith("| ")]
    told = {file.replace("six ", ""): (kind, said) for file, kind, said in rows}
    for source in (each for sources in FILES.values() for each in sources):
        file = "smallnorb-*.mat.gz" if source.file.startswith("smallnorb-") else source.file
        kind, said = told[file]
        assert kind.lower().replace("-", "") == (source.checksum or "none").partition(":")[0]
        assert said.startswith("**1**: " if source.witnesses == 1 else str(source.witnesses)), file
