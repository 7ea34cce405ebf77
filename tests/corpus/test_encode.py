"""The encoder equals its reference implementation, and fails cleanly."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from corpora import content
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_inf.corpus import encode as encode_module
from w2v_inf.corpus.encode import encode
from w2v_inf.corpus.encoded_folder import Origin
from w2v_inf.corpus.load import EncodedCorpus, open_corpus
from w2v_inf.errors import UserError
from w2v_inf.reference.encoding import encode_slowly

ORIGIN = Origin("file", "some.txt", "00" * 32, "", "none")


TEXT = b"the cat sat on the mat\nthe dog\n\n  on a log \n"


def encoded(chunks: list[bytes], folder: Path) -> EncodedCorpus:
    encode(chunks, folder, ORIGIN)
    return open_corpus(folder)


def split_at(text: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]


# Blanks of ASCII, separators that are none here (\x1c, \x85, \u2028), letters of 1 to 4 bytes,
# control characters, byte order marks.
awkward = st.lists(
    st.sampled_from(
        list("abc \n\t\v\f\r\1\ufeff\x1c\x85\u2028é中😀") + ["a b ", "the ", "\n\n", "  "]
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    pieces=awkward, cuts=st.lists(st.integers(0, 400), max_size=6), block_bytes=st.integers(1, 64)
)
def test_equals_the_reference_whatever_the_chunks_and_blocks(
    tmp_path_factory, pieces, cuts, block_bytes
):
    text = ("seed word\n" + "".join(pieces)).encode()
    folder = tmp_path_factory.mktemp("encode") / "corpus"
    with pytest.MonkeyPatch.context() as patch:
        # Four blocks is the longest word allowed.
        patch.setattr(encode_module, "_BLOCK_BYTES", max(block_bytes, len(text) // 4 + 1))
        assert content(encoded(split_at(text, cuts), folder)) == encode_slowly(text)


def test_small_blocks_equal_one_block(tmp_path, monkeypatch):
    words = np.random.default_rng(0).zipf(1.3, 3000) % 500
    text = b"".join(
        b"w%d%s" % (word, b"\n" if i % 37 == 36 else b" ") for i, word in enumerate(words)
    )
    whole = content(encoded([text], tmp_path / "whole"))
    monkeypatch.setattr(encode_module, "_BLOCK_BYTES", 40)
    chunks = [text[i : i + 7] for i in range(0, len(text), 7)]
    assert content(encoded(chunks, tmp_path / "blocks")) == whole == encode_slowly(text)


def test_ids_follow_counts_and_documents_are_lines(tmp_path):
    corpus = encoded([TEXT], tmp_path / "c")
    assert corpus.vocab.words == ["the", "on", "a", "cat", "dog", "log", "mat", "sat"]
    assert corpus.vocab.counts.tolist() == [3, 2, 1, 1, 1, 1, 1, 1]
    assert corpus.documents.tolist() == [0, 6, 8, 11]
    assert corpus.tokens.dtype == np.int32 and corpus.documents.dtype == np.int64
    assert [corpus.vocab.words[i] for i in corpus.tokens[6:8]] == ["the", "dog"]
    with pytest.raises(ValueError):
        corpus.tokens[0] = 1


def test_one_long_line_is_one_document_with_the_same_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(encode_module, "_BLOCK_BYTES", 16)
    lines = encoded([TEXT], tmp_path / "lines")
    line = encoded([TEXT.replace(b"\n", b" ")], tmp_path / "line")
    assert line.documents.tolist() == [0, 11]
    assert content(line)[0] == content(lines)[0] and content(line)[2:] == content(lines)[2:]


def test_the_vocabulary_file_is_readable_and_info_is_complete(tmp_path):
    corpus = encoded([TEXT], tmp_path / "c")
    assert (tmp_path / "c" / "vocab.tsv").read_text().splitlines()[:3] == [
        "the\t3",
        "on\t2",
        "a\t1",
    ]
    assert {
        key: corpus.info[key]
        for key in ("name", "source", "num_tokens", "num_types", "num_documents", "synthetic")
    } == {
        "name": "file",
        "source": "some.txt",
        "num_tokens": 11,
        "num_types": 8,
        "num_documents": 3,
        "synthetic": False,
    }
    assert sorted(os.listdir(tmp_path / "c")) == [
        "corpus.json",
        "documents.npy",
        "tokens.bin",
        "vocab.tsv",
    ]
    tokens = (tmp_path / "c" / "tokens.bin").read_bytes()
    assert np.frombuffer(tokens, "<i4").tolist() == corpus.tokens.tolist()
    assert corpus.info["tokens_sha256"] == hashlib.sha256(tokens).hexdigest()


@pytest.mark.parametrize(
    "chunks, message",
    [
        ([], "some.txt.*at least 2 distinct words, found no words"),
        ([b" \n\n\t"], "found no words"),
        ([b"word word\nword"], "found only 'word'"),
        (
            [b"caf\xc3\xa9 ", b"ol\xe9 bad"],
            r"some.txt must be UTF-8 text, is not at byte 8 \(0xe9\)",
        ),
        ([b"cut caf\xc3"], r"byte 7 \(0xc3\)"),
        ([b"ab cd", b" \0e"], r"byte 6 \(0x00\): is it another format\?"),
    ],
)
def test_bad_text_is_one_clear_line_and_leaves_nothing(tmp_path, chunks, message):
    with pytest.raises(UserError, match=message) as caught:
        encode(chunks, tmp_path / "c", ORIGIN)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_byte_order_marks_are_blanks(tmp_path, monkeypatch):
    monkeypatch.setattr(encode_module, "_BLOCK_BYTES", 4)
    text = "\ufeffone two\n\ufeffone\ufefftwo\n\ufeff\n one\n".encode()
    for size in (1, 2, 3, 99):
        chunks = [text[i : i + size] for i in range(0, len(text), size)]
        corpus = encoded(chunks, tmp_path / str(size))
        assert corpus.vocab.words == ["one", "two"] and corpus.documents.tolist() == [0, 2, 4, 5]
        assert content(corpus) == encode_slowly(text)


def test_byte_offset_counts_from_the_start_of_the_text_not_of_the_block(tmp_path, monkeypatch):
    monkeypatch.setattr(encode_module, "_BLOCK_BYTES", 8)
    with pytest.raises(UserError, match=r"byte 2,002 \(0xff\)"):
        encode([b"ab cd " * 10] * 33 + [b"x " * 11 + b"\xff"], tmp_path / "c", ORIGIN)


def test_text_without_blanks_is_refused_before_it_fills_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(encode_module, "_BLOCK_BYTES", 100)
    endless = (b"x" * 50 for _ in iter(int, 1))
    with pytest.raises(UserError, match="without a blank"):
        encode(endless, tmp_path / "c", ORIGIN)
    assert os.listdir(tmp_path) == []
