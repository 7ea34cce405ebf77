"""Each kind of corpus: its text, its identity, and the errors of users."""

import gzip
import hashlib
import os
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import LINES, TEXT, expect_error, lines
from local_server import serving

from w2v_inf.config import Config, Fil9, Planted, Sample, Text8, TextFile, Wikipedia
from w2v_inf.corpus import sources
from w2v_inf.corpus.archives import hash_file
from w2v_inf.corpus.download import CorpusUnavailable
from w2v_inf.corpus.load import open_corpus
from w2v_inf.corpus.prepare import prepare, prepare_stage
from w2v_inf.corpus.sources import Archive

DUMP = (
    b'<text xml:space="preserve">One [[two|three]]</text><text xml:space="preserve">four 5</text>'
)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "corpus.path: .*x.txt not found"),
        (b"", "x.txt: a corpus needs at least 2 distinct words, found no words"),
        (b"same same\nsame", "found only 'same'"),
        (b"good \xfe bad", "x.txt must be UTF-8 text, is not at byte 5"),
    ],
)
def test_bad_files(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.txt").write_bytes(content)
    expect_error(TextFile(path=str(tmp_path / "x.txt")), tmp_path / "data", message)


def test_a_folder_is_no_text_file(tmp_path):
    expect_error(
        TextFile(path=str(tmp_path)),
        tmp_path / "data",
        "corpus.path must be a text file, got the folder",
    )


@pytest.mark.parametrize("corpus", [TextFile, Text8, Fil9])
def test_what_cannot_be_read_twice_is_refused(tmp_path, corpus):
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: opening it would wait for ever
    message = "corpus.path must be a file that can be read twice, got the pipe .*: save it"
    expect_error(corpus(path=str(tmp_path / "pipe")), tmp_path / "data", message)
    read_end, write_end = os.pipe()
    expect_error(corpus(path=f"/dev/fd/{read_end}"), tmp_path / "data", message)
    os.close(read_end)
    os.close(write_end)
    expect_error(corpus(path="/dev/zero"), tmp_path / "data", "read twice, got the device /dev/z")


def test_a_file_behind_a_descriptor_can_be_read_twice(tmp_path):
    (tmp_path / "x.txt").write_bytes(TEXT)
    with open(tmp_path / "x.txt") as file:
        file.read()
        assert lines(TextFile(path=f"/proc/self/fd/{file.fileno()}"), tmp_path / "data") == LINES


@pytest.mark.parametrize("name", ["x.txt", "x.gz", "x.parquet"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, name):
    path = tmp_path / name

    def write(text: bytes) -> None:
        if name == "x.parquet":
            pq.write_table(pa.table({"text": text.decode().splitlines()}), path)
        else:
            path.write_bytes(gzip.compress(text) if name == "x.gz" else text)

    def hash_and_grow(path: Path) -> str:
        found = hash_file(path)
        write(TEXT + b"more words\n")
        return found

    write(TEXT)
    corpus = (Wikipedia if name == "x.parquet" else TextFile)(path=str(path))
    with monkeypatch.context() as patch:
        patch.setattr(sources, "hash_file", hash_and_grow)
        expect_error(corpus, tmp_path / "data", f"{name} has changed while it was read")
    assert lines(corpus, tmp_path / "data") == [*LINES, "more words"]


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def small_text8(monkeypatch):
    monkeypatch.setattr(
        sources,
        "TEXT8",
        Archive("http://127.0.0.1:9/text8.zip", "text8", hashlib.md5(TEXT).hexdigest()),
    )


def test_a_local_zip_of_text8(tmp_path, small_text8):
    zipped(tmp_path / "z.zip", text8=TEXT, other=b"never read")
    corpus = Text8(path=str(tmp_path / "z.zip"))
    assert lines(corpus, tmp_path / "data") == LINES
    assert [name.partition("-")[0] for name in os.listdir(tmp_path / "data")] == ["text8"]
    assert open_corpus(prepare(corpus, tmp_path / "data")).info["licence"].startswith("CC BY-SA")


def test_bad_local_zips_are_refused(tmp_path, small_text8):
    data_dir = tmp_path / "data"
    other = zipped(tmp_path / "other.zip", text8=TEXT + b"x")
    expect_error(
        Text8(path=str(other)),
        data_dir,
        f"other.zip: text8 must have md5 {hashlib.md5(TEXT).hexdigest()}, has ",
    )
    wrong = zipped(tmp_path / "wrong.zip", fil9=TEXT)
    expect_error(
        Text8(path=str(wrong)), data_dir, "wrong.zip must contain a file 'text8', has fil9"
    )
    cut = tmp_path / "cut.zip"
    cut.write_bytes(other.read_bytes()[:-30])
    expect_error(Text8(path=str(cut)), data_dir, "cut.zip is damaged or no such archive")
    expect_error(
        Text8(path=str(tmp_path / "none.zip")), data_dir, "corpus.path: .*none.zip not found"
    )


def test_members_cannot_choose_where_they_are_written(tmp_path, small_text8):
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped", b"x")
        archive.writestr("text8", TEXT)
    prepare(Text8(path=str(path)), tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("escaped"))


def test_text8_from_a_mirror_is_downloaded_once_and_the_cache_needs_no_zip(tmp_path, small_text8):
    content = zipped(tmp_path / "served.zip", text8=TEXT).read_bytes()
    with serving(content) as server:
        assert lines(Text8(url=server.url), tmp_path / "data") == LINES
    (tmp_path / "data" / "text8.zip").unlink()
    assert lines(Text8(), tmp_path / "data") == LINES
    assert len(server.requests) == 1


def test_a_mirror_with_another_text_is_refused(tmp_path, small_text8):
    with serving(zipped(tmp_path / "served.zip", text8=b"other words").read_bytes()) as server:
        error = expect_error(
            Text8(url=server.url),
            tmp_path / "data",
            f"{server.url}: what came is not the expected file .*md5",
        )
    assert isinstance(error, CorpusUnavailable)


def test_text8_that_cannot_be_had_says_so(tmp_path, small_text8, monkeypatch):
    monkeypatch.setattr("w2v_inf.corpus.download.time.sleep", lambda _: None)
    error = expect_error(
        Text8(), tmp_path / "data", "http://127.0.0.1:9/text8.zip cannot be downloaded"
    )
    assert isinstance(error, CorpusUnavailable)


def test_fil9_goes_through_wikifil(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sources,
        "ENWIK9",
        Archive("http://127.0.0.1:9/x.zip", "enwik9", hashlib.md5(DUMP).hexdigest()),
    )
    path = zipped(tmp_path / "z.zip", enwik9=DUMP)
    assert lines(Fil9(path=str(path)), tmp_path / "data") == ["one three", "four five"]


def test_the_published_checksums():
    assert sources.TEXT8.md5 == "3bea1919949baf155f99411df5fada7e"
    assert sources.ENWIK9.md5 == "e206c3450ac99950df65bf70ef61a12d"


def test_sample_is_there_offline(tmp_path, capsys):
    prepare_stage(Config(corpus=Sample(), data_dir=str(tmp_path)))
    corpus = open_corpus(prepare(Sample(), tmp_path))
    assert (len(corpus.tokens), len(corpus.documents) - 1, len(corpus.vocab)) == (
        512_934,
        106,
        33_166,
    )
    assert corpus.vocab.words[:3] == ["the", "of", "and"]
    assert all(set(word) <= set("abcdefghijklmnopqrstuvwxyz") for word in corpus.vocab.words)
    table = capsys.readouterr().out
    assert (
        "tokens                512,934\n" in table
        and "vocabulary            8,925 (min_count 5)\n" in table
    )


def test_planted_is_marked_as_synthetic(tmp_path, monkeypatch):
    fake = SimpleNamespace(
        PLANTED_VERSION="7", planted_documents=lambda: iter(["paris france", "rome italy"])
    )
    monkeypatch.setitem(sys.modules, "w2v_inf.corpus.planted", fake)
    assert lines(Planted(), tmp_path) == ["paris france", "rome italy"]
    assert open_corpus(prepare(Planted(), tmp_path)).info["synthetic"] is True
