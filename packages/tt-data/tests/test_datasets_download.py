"""Downloading, against a real HTTP server on loopback that can do everything wrong that servers do."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import socket
import tarfile
import threading
import time
from pathlib import Path

import pytest
from data_files import cifar_pickle, digits, idx, photographs, write_mnist

from tt_core.engine.errors import FileError
from tt_data import CIFAR10, MNIST, DownloadError, Text
from tt_data.command.milestones import dataset_arrays
from tt_data.datasets import download, images, text
from tt_data.datasets.download import Remote, fetch, obtain

CONTENT = bytes(range(256)) * 4000  # 1 MB
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/FOLDER/NAME, where the folder says what goes wrong."""

    files: dict[str, bytes]
    asked: list[str]

    def do_GET(self):
        type(self).asked.append(self.path)
        _, folder, name = self.path.split("/", 2)
        content = type(self).files.get(name)
        if folder == "missing" or content is None:
            return self.send_error(404)
        if folder == "broken":
            return self.send_error(500)
        if folder == "wrong":
            content = b"x" + content[1:]
        if folder == "slow":
            time.sleep(5)
        self.send_response(200)
        if folder != "unsized":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that does not wait for the end
            self.wfile.write(content[: len(content) // 2] if folder in ("cut", "unsized") else content)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Own", (Handler,), {"files": {"file.bin": CONTENT}, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.url = f"http://127.0.0.1:{running.server_port}"
        running.files, running.asked = handler.files, handler.asked
        yield running
        running.shutdown()
        thread.join()


def remote(server, *folders, name="file.bin", sha=SHA):
    return Remote(name, sha, tuple(f"{server.url}/{folder}/" for folder in folders))


def test_a_file_is_downloaded_once(server, tmp_path):
    for _ in range(2):
        path = fetch(remote(server, "good"), tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert server.asked == ["/good/file.bin"]
    assert os.listdir(tmp_path / "new") == ["file.bin"]


@pytest.mark.parametrize(
    ("trouble", "word"),
    [
        ("missing", "HTTP status 404"),
        ("broken", "HTTP status 500"),
        ("wrong", "wrong checksum"),
        ("cut", "connection was cut|wrong checksum"),
        ("unsized", "wrong checksum"),
    ],
)
def test_trouble_leaves_nothing_and_names_its_cause(server, tmp_path, trouble, word):
    with pytest.raises(DownloadError, match=rf"file.bin .*/{trouble}/file.bin: ({word}).*TT_DATA_HOME") as caught:
        fetch(remote(server, trouble), tmp_path)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_there_already_is_checked(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT[1:])
    with pytest.raises(FileError, match=r"file.bin: checksum differs .* remove it"):
        fetch(remote(server, "good"), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT[1:]
    assert server.asked == []


def test_mirrors_are_tried_in_turn(server, tmp_path):
    path = fetch(remote(server, "missing", "wrong", "cut", "good", "never"), tmp_path)
    assert path.read_bytes() == CONTENT
    assert [asked.split("/")[1] for asked in server.asked] == ["missing", "wrong", "cut", "good"]


def test_when_all_mirrors_fail_all_are_named(server, tmp_path):
    with pytest.raises(DownloadError, match=r"missing/file.bin: .*404.*wrong/file.bin: wrong checksum"):
        fetch(remote(server, "missing", "wrong"), tmp_path)


def test_without_a_network(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: nobody answers
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(DownloadError, match=r"no connection.*Without a network.*--data-dir") as caught:
            fetch(Remote("file.bin", SHA, (url,)), tmp_path)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_server_that_does_not_answer(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.3)
    with pytest.raises(DownloadError, match="timed out"):
        fetch(remote(server, "slow"), tmp_path)


def test_what_a_killed_download_left_is_removed_when_it_is_old(server, tmp_path):
    old, young = tmp_path / ".incoming-old", tmp_path / ".incoming-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "half").write_bytes(b"half")
    os.utime(old, (0, 0))
    fetch(remote(server, "good"), tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".incoming-young", "file.bin"]  # that one may still be running


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="cannot be written for a download"):
        fetch(remote(server, "good"), tmp_path / "file" / "folder")


def test_a_given_folder_is_only_read(server, tmp_path):
    root = tmp_path / "read-only"
    root.mkdir()
    found = obtain("things", [remote(server, "good")], root)
    assert list(root.iterdir()) == []
    assert found == Path(os.environ["TT_DATA_HOME"]) / "things"
    assert obtain("things", [remote(server, "missing")], root, download=False) == found  # now in the cache


def test_mnist_is_downloaded_when_it_is_nowhere(server, tmp_path, monkeypatch):
    write_mnist(tmp_path / "origin")
    server.files.update({path.name: path.read_bytes() for path in (tmp_path / "origin").iterdir()})
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in server.files.items()}
    monkeypatch.setattr(MNIST, "files", {name: hashes[name] for name in MNIST.files})
    monkeypatch.setattr(MNIST, "mirrors", (f"{server.url}/missing/", f"{server.url}/good/"))
    assert (MNIST().images[:, 0] == digits(12)[0]).all()
    assert (MNIST(train=False).images[:, 0] == digits(12, 1)[0]).all()
    asked = len(server.asked)
    MNIST()
    train, labels, test, _ = dataset_arrays("mnist", None)  # what `tt milestone mlp` asks for
    assert (train == digits(12)[0]).all()
    assert (len(labels), len(test)) == (12, 12)
    assert len(server.asked) == asked


def tar(members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), kind
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_cifar_is_downloaded_and_unpacked_member_by_member(server, monkeypatch, tmp_path):
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    members = {f"cifar-10-batches-py/{name}": cifar_pickle(*photographs(2, i)) for i, name in enumerate(names)}
    outside = {"../evil": b"x", "/evil": b"x", "cifar-10-batches-py/../evil": b"x", "other/evil": b"x"}
    content = tar({**members, **outside})
    server.files["cifar-10-python.tar.gz"] = content
    archive = remote(server, "good", name="cifar-10-python.tar.gz", sha=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(CIFAR10, "archive", archive)
    assert len(CIFAR10()) == 10
    assert len(CIFAR10(train=False)) == 2
    assert len(server.asked) == 1
    home = Path(os.environ["TT_DATA_HOME"])
    assert sorted(path.name for path in home.rglob("*") if path.is_file()) == names
    assert not list(tmp_path.rglob("evil"))


def test_damaged_archives_are_one_line(tmp_path):
    whole = tar({"cifar-10-batches-py/a": bytes(5000)})
    plain = gzip.decompress(whole)
    rest = gzip.compress(plain[1024:])
    wrong_code = gzip.compress(plain[:1024]) + rest[:10] + b"\xff" + rest[11:]  # a block of a kind that is none
    for content in (whole[:-30], b"no tar", b"", gzip.compress(b"no tar"), whole[:20], wrong_code):
        (tmp_path / "a.tar.gz").write_bytes(content)
        with pytest.raises(FileError, match=r"a.tar.gz") as caught:
            images.extract(tmp_path / "a.tar.gz", "cifar-10-batches-py", tmp_path / "out")
        assert "\n" not in str(caught.value)
    (tmp_path / "a.tar.gz").write_bytes(whole)
    with pytest.raises(FileError, match="at most 100"):
        images.extract(tmp_path / "a.tar.gz", "cifar-10-batches-py", tmp_path / "out", max_bytes=100)


def test_the_default_text_is_downloaded(server, monkeypatch):
    server.files["input.txt"] = b"To be, or not to be"
    sha = hashlib.sha256(server.files["input.txt"]).hexdigest()
    monkeypatch.setattr(text, "TINY_SHAKESPEARE", remote(server, "good", name="input.txt", sha=sha))
    assert bytes(Text(block_size=5)[0][0].astype("u1")) == b"To be"


def test_the_published_files_have_checksums_and_mirrors():
    idx_header = idx(digits(1)[0])[:4]
    assert idx_header == b"\0\0\x08\x03"
    for remote_file in (CIFAR10.archive, text.TINY_SHAKESPEARE):
        assert len(bytes.fromhex(remote_file.sha256)) == 32
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in remote_file.mirrors)
    assert len({sha for kind in (MNIST, images.FashionMNIST) for sha in kind.files.values()}) == 8
