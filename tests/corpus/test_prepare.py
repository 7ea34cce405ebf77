"""The stage prepare and its cache."""

import hashlib
import os

import pytest
from corpora import TEXT, expect_error

from w2v_inf.config import Config, TextFile
from w2v_inf.corpus.load import open_corpus
from w2v_inf.corpus.prepare import prepare, prepare_stage
from w2v_inf.errors import UserError


def test_the_cache_goes_by_content(tmp_path, monkeypatch):
    path, data_dir = tmp_path / "x.txt", tmp_path / "data"
    path.write_bytes(TEXT)
    first = prepare(TextFile(path=str(path)), data_dir)
    with monkeypatch.context() as patch:
        patch.setattr("w2v_inf.corpus.prepare.encode_text", lambda *_: pytest.fail("encoded again"))
        assert prepare(TextFile(path=str(path), min_count=1, max_vocab=2), data_dir) == first
    path.write_bytes(TEXT + b"more words")
    second = prepare(TextFile(path=str(path)), data_dir)
    assert sorted(os.listdir(data_dir)) == sorted([first.name, second.name])
    assert open_corpus(first).info["source_sha256"] == hashlib.sha256(TEXT).hexdigest()


def test_a_damaged_cache_is_found_by_prepare(tmp_path):
    (tmp_path / "x.txt").write_bytes(TEXT)
    corpus = TextFile(path=str(tmp_path / "x.txt"))
    tokens = prepare(corpus, tmp_path / "data") / "tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-1])
    expect_error(
        corpus,
        tmp_path / "data",
        "tokens.bin must have 48,000 bytes, has 47,999: delete the folder",
    )


def test_the_stage_refuses_a_vocabulary_of_one_word(tmp_path, capsys):
    (tmp_path / "x.txt").write_bytes(b"a a a b c")
    with pytest.raises(UserError, match="corpus.min_count=2 leaves 1 word of 3"):
        prepare_stage(
            Config(
                corpus=TextFile(path=str(tmp_path / "x.txt"), min_count=2),
                data_dir=str(tmp_path / "data"),
            )
        )
    assert capsys.readouterr().out == ""
