import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import Server, serving

from w2v_inf.corpus.download import CorpusUnavailable, download
from w2v_inf.errors import UserError

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(CONTENT) as running:
        yield running


def check(path: Path) -> None:
    if path.read_bytes() != CONTENT:
        raise UserError(f"{path} has another checksum")


def fetch(server: Server, folder: Path, **options: float) -> Path:
    return download(server.url, folder / "text.zip", check, pause_s=0.01, **options)  # type: ignore[arg-type]


def test_downloads_once_and_then_takes_the_file(server, tmp_path):
    for _ in range(2):
        assert fetch(server, tmp_path / "new" / "folder").read_bytes() == CONTENT
    assert server.requests == [""]
    assert os.listdir(tmp_path / "new" / "folder") == ["text.zip"]


def test_cut_connections_are_resumed_where_they_broke(server, tmp_path):
    server.cuts = [300_000, 500_000]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["", "bytes=300000-", "bytes=800000-"]


def test_a_download_cut_at_any_byte_is_resumed(tmp_path):
    with serving(b"all of it") as server:
        for cut in range(10):
            folder = tmp_path / str(cut)
            server.cuts = [cut]
            path = download(server.url, folder / "text.zip", lambda path: None, pause_s=0.001)
            assert path.read_bytes() == b"all of it" and os.listdir(folder) == ["text.zip"]
            server.cuts = []
            killed = folder / "killed.zip"
            killed.with_name("killed.zip.part").write_bytes(
                b"all of it"[:cut]
            )  # what a killed process leaves
            assert (
                download(server.url, killed, lambda path: None, pause_s=0.001).read_bytes()
                == b"all of it"
            )


def test_a_later_call_resumes_a_partial_file(server, tmp_path):
    server.cuts = [100_000, 100_000]
    with pytest.raises(
        CorpusUnavailable,
        match=f"{server.url} cannot be downloaded.*200,000 bytes are kept: run again",
    ) as caught:
        fetch(server, tmp_path, attempts=2)
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == ["text.zip.part"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=200000-"
    assert os.listdir(tmp_path) == ["text.zip"]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.cuts, server.ranges = [300_000], False
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("stale", [b"of another version", CONTENT + b"too long"])
def test_a_partial_file_of_something_else_is_fetched_again(server, tmp_path, stale):
    (tmp_path / "text.zip.part").write_bytes(stale)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [f"bytes={len(stale)}-", ""]


def test_wrong_content_is_refused_and_deleted(server, tmp_path):
    server.content = b"a login page"
    with pytest.raises(
        CorpusUnavailable,
        match=f"{server.url}: what came is not the expected file .*another checksum",
    ):
        fetch(server, tmp_path)
    assert server.requests == [""] and os.listdir(tmp_path) == []


def test_404_is_final(server, tmp_path):
    server.statuses = [404]
    with pytest.raises(
        CorpusUnavailable,
        match=f"{server.url} cannot be downloaded .HTTP 404.*corpus.url.*corpus.path",
    ):
        fetch(server, tmp_path)
    assert server.requests == [""] and os.listdir(tmp_path) == []


def test_503_is_tried_again(server, tmp_path):
    server.statuses = [503, 503]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    server.statuses = [503] * 9
    (tmp_path / "text.zip").unlink()
    with pytest.raises(CorpusUnavailable, match="HTTP 503"):
        fetch(server, tmp_path, attempts=3)
    assert len(server.statuses) == 6


def test_an_unreachable_server_is_asked_twice(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("w2v_inf.corpus.download.time.sleep", waits.append)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/text8.zip"
        with pytest.raises(CorpusUnavailable, match=f"{url} cannot be downloaded"):
            download(url, tmp_path / "text8.zip", check)
    assert waits == [1.0] and os.listdir(tmp_path) == []


def test_other_protocols_are_refused(tmp_path):
    with pytest.raises(
        UserError, match="corpus.url must start with http:// or https://, got file:///etc/hostname"
    ):
        download("file:///etc/hostname", tmp_path / "x.zip", check)


def test_two_at_once_fetch_it_once(server, tmp_path):
    threads = [threading.Thread(target=fetch, args=(server, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "text.zip").read_bytes() == CONTENT
    assert server.requests == [""] and os.listdir(tmp_path) == ["text.zip"]


def test_a_full_disk_is_a_user_error_and_leaves_nothing(server, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("w2v_inf.corpus.download.os.fsync", full)
    with pytest.raises(
        UserError, match="no space left on device downloading http.*choose another data_dir"
    ):
        fetch(server, tmp_path)
    assert os.listdir(tmp_path) == []
