"""Plain and compressed files, whole and damaged."""

import bz2
import gzip
import lzma
import os
import sys

import pytest
import zstandard
from corpora import LINES, TEXT, expect_error, lines

from w2v_inf.config import TextFile

COMPRESSORS = {
    "x.txt": bytes,
    "x.gz": gzip.compress,
    "x.bz2": bz2.compress,
    "x.xz": lzma.compress,
    "x.zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_files_plain_and_compressed(tmp_path, name):
    (tmp_path / name).write_bytes(COMPRESSORS[name](TEXT))
    assert lines(TextFile(path=str(tmp_path / name)), tmp_path / "data") == LINES


@pytest.mark.parametrize("name", [name for name in COMPRESSORS if name != "x.txt"])
@pytest.mark.parametrize("kept", [0.0, 0.6, 0.98])
def test_a_truncated_archive_is_a_user_error(tmp_path, name, kept):
    whole = COMPRESSORS[name](os.urandom(3000).hex().encode() + b" " + TEXT)
    (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
    # gzip, bz2 and xz take an empty file for an empty text.
    expect_error(
        TextFile(path=str(tmp_path / name)),
        tmp_path / "data",
        f"{name} is cut short|{name}: a corpus needs at least 2"
        if not kept
        else f"{name} is cut short",
    )


@pytest.mark.parametrize("name", [name for name in COMPRESSORS if name != "x.txt"])
def test_a_file_that_is_no_such_archive_is_a_user_error(tmp_path, name):
    (tmp_path / name).write_bytes(TEXT)
    expect_error(
        TextFile(path=str(tmp_path / name)),
        tmp_path / "data",
        f"{name} (is damaged|cannot be read)",
    )


def test_zstd_frames_follow_each_other(tmp_path):
    compress = zstandard.ZstdCompressor().compress
    (tmp_path / "x.zst").write_bytes(compress(TEXT) + compress(b"") + compress(b"last words"))
    assert lines(TextFile(path=str(tmp_path / "x.zst")), tmp_path / "data") == [
        *LINES,
        "last words",
    ]


def test_zst_without_zstandard_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.zst").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    expect_error(
        TextFile(path=str(tmp_path / "x.zst")), tmp_path / "data", r"pip install w2v_inf\[zstd\]"
    )
