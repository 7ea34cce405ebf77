"""Plain and compressed files, whole and damaged."""

import bz2
import gzip
import io
import lzma
import os
import sys
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from corpora import LINES, TEXT, expect_error, lines

from w2v_inf.config import TextFile

COMPRESSORS = {
    "x.txt": bytes,
    "x.gz": gzip.compress,
    "x.bz2": bz2.compress,
    "x.xz": lzma.compress,
    # As the program zstd does by default.
    "x.zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_files_plain_and_compressed(tmp_path, name):
    (tmp_path / name).write_bytes(COMPRESSORS[name](TEXT))
    assert lines(TextFile(path=str(tmp_path / name)), tmp_path / "data") == LINES


COMPRESSED = [name for name in COMPRESSORS if name != "x.txt"]


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("other", ["x", "x.txt", "x.gz", "x.xz"])
def test_the_bytes_decide_the_format_not_the_name(tmp_path, name, other):
    (tmp_path / other).write_bytes(COMPRESSORS[name](TEXT))
    assert lines(TextFile(path=str(tmp_path / other)), tmp_path / "data") == LINES
    (tmp_path / other).write_bytes(TEXT)
    assert lines(TextFile(path=str(tmp_path / other)), tmp_path / "data") == LINES


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("kept", [0.0, 0.6, 0.98])
def test_a_truncated_archive_is_a_user_error(tmp_path, name, kept):
    whole = COMPRESSORS[name](os.urandom(3000).hex().encode() + b" " + TEXT)
    (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
    message = f"{name} is cut short" if kept else f"{name}: a corpus needs at least 2"
    expect_error(TextFile(path=str(tmp_path / name)), tmp_path / "data", message)


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_damaged_archive_is_a_user_error(tmp_path, name):
    whole = bytearray(COMPRESSORS[name](os.urandom(3000).hex().encode() + b" " + TEXT))
    whole[-1500] ^= 255
    whole[-1499] ^= 255
    (tmp_path / name).write_bytes(whole)
    expect_error(
        TextFile(path=str(tmp_path / name)),
        tmp_path / "data",
        f"{name} (is damaged|is cut short|cannot be read)",
    )


SKIPPABLE = b"\x5f\x2a\x4d\x18\x03\0\0\0xyz"
"""A zstd frame of user data, which readers skip."""
NO_PADDING = "is damaged or no such archive .*zeros"


@pytest.mark.parametrize(
    "name, between, after",
    [
        *[(name, b"", b"") for name in COMPRESSED],
        ("x.xz", bytes(4), b""),
        ("x.xz", bytes(8), bytes(12)),
        ("x.xz", b"", bytes(1 << 15)),
        ("x.gz", bytes(3), bytes(1)),
        ("x.zst", SKIPPABLE, SKIPPABLE),
    ],
)
@pytest.mark.parametrize("piece", [1, 1 << 13])
def test_streams_follow_each_other(tmp_path, monkeypatch, name, between, after, piece):
    monkeypatch.setattr("w2v_inf.corpus.archives._COMPRESSED_BYTES", piece)
    monkeypatch.setattr("w2v_inf.corpus.archives._HEAD_BYTES", 10)
    first, empty, last = (COMPRESSORS[name](text) for text in (TEXT, b"", b"last words"))
    (tmp_path / name).write_bytes(first + between + empty + last + after)
    assert lines(TextFile(path=str(tmp_path / name)), tmp_path / "data") == [*LINES, "last words"]


@pytest.mark.parametrize(
    "name, after, message",
    [
        *[(name, b"junk", f"{name} (is|cannot)") for name in COMPRESSED],
        *[(name, b"\n", f"{name} (is|cannot)") for name in COMPRESSED],
        ("x.xz", bytes(3), NO_PADDING),
        ("x.xz", bytes(3) + lzma.compress(b"lost words"), NO_PADDING),
        ("x.bz2", bytes(4), "x.bz2 cannot be read"),
        ("x.zst", bytes(4), "x.zst is damaged"),
        ("x.zst", SKIPPABLE[:-1], "x.zst is cut short"),
        # A later stream that is damaged or lacks its end.
        *[(name, COMPRESSORS[name](TEXT)[:-4], f"{name} is cut short") for name in COMPRESSED],
        ("x.xz", bytes(4) + lzma.compress(TEXT)[:-20] + bytes(20), "x.xz is damaged"),
        ("x.xz", lzma.compress(TEXT)[:6] + b"x" + lzma.compress(TEXT)[7:], "x.xz is damaged"),
        ("x.bz2", b"BZh9x" + bz2.compress(TEXT)[5:], "x.bz2 cannot be read"),
    ],
)
def test_what_follows_a_stream_is_never_dropped(tmp_path, name, after, message):
    (tmp_path / name).write_bytes(COMPRESSORS[name](TEXT) + after)
    expect_error(TextFile(path=str(tmp_path / name)), tmp_path / "data", message)


def tarred(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return buffer.getvalue()


def zipped(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", text)
        archive.writestr("b.txt", text)
    return buffer.getvalue()


def as_parquet(text: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": text.decode().splitlines()}), sink)
    return sink.getvalue().to_pybytes()


CYRILLIC = "один два\n" * 99
NO_TEXT = {
    "a tar archive; unpack it": tarred(TEXT),
    "a zip archive": zipped(TEXT),
    "compressed twice, inside by gzip": gzip.compress(gzip.compress(TEXT)),
    "compressed twice, inside by xz": bz2.compress(lzma.compress(TEXT)),
    "a parquet file; read it with corpus=wikipedia": as_parquet(TEXT),
    "a PDF": b"%PDF-1.4\n1 0 obj stream words endstream",
    "UTF-16;": TEXT.decode().encode("utf-16"),
    "UTF-16; ": TEXT.decode().encode("utf-16-le"),
    "UTF-16; c": TEXT.decode().encode("utf-16-be"),
    "UTF-16; co": CYRILLIC.encode("utf-16-le"),
    "UTF-16; con": CYRILLIC.encode("utf-16-be"),
    "UTF-32;": TEXT.decode().encode("utf-32"),
    "not at byte": b"words, then a record:\x01\x02\x00\x00\x05 " + TEXT,
    "not at byte 4": b"v7 a" + bytes(96) + TEXT,  # a tar of before 1988 has no mark
}


@pytest.mark.parametrize("what", NO_TEXT)
def test_a_file_that_is_no_text_is_named(tmp_path, what):
    (tmp_path / "x.txt").write_bytes(NO_TEXT[what])
    message = f"x.txt must be UTF-8 text, is {what}"
    expect_error(TextFile(path=str(tmp_path / "x.txt")), tmp_path / "data", message)
    (tmp_path / "x.txt").write_bytes(gzip.compress(NO_TEXT[what]))
    message = message if "twice" not in what else "is compressed twice"
    expect_error(TextFile(path=str(tmp_path / "x.txt")), tmp_path / "data", message)


def test_zst_with_a_long_window_is_read(tmp_path):
    long = zstandard.ZstdCompressionParameters.from_level(3, window_log=30)
    stream = zstandard.ZstdCompressor(compression_params=long).compressobj()
    (tmp_path / "x.zst").write_bytes(stream.compress(TEXT) + stream.flush())
    assert lines(TextFile(path=str(tmp_path / "x.zst")), tmp_path / "data") == LINES


def test_zst_without_zstandard_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.zst").write_bytes(zstandard.compress(TEXT))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    expect_error(
        TextFile(path=str(tmp_path / "x.zst")), tmp_path / "data", r"pip install w2v_inf\[zstd\]"
    )
