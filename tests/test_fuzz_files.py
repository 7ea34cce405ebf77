"""Fuzz tests of files beside independent readers: equal, or refused in one line.

Decisions:
- Files of vectors are compared with gensim's reader, in the format in which the file was written.
  Read as the other format, a damaged file is garbage to both.
- Compressed texts are composed of streams, padding and damage, so the right text is known. A file
  without damage is also read by Python's own modules.
"""

import bz2
import gzip
import logging
import lzma
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from corpora import lines
from fuzzing import MEMORY, damaged, fuzzed
from hostile import VOCAB, table
from hypothesis import event, given
from hypothesis import strategies as st

from w2v_inf.config import TextFile
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.pairs import load_question_file
from w2v_inf.evaluation.similarity import read_similarities
from w2v_inf.vector_folders.folder import PROJECTOR
from w2v_inf.vector_folders.hub import write_hub
from w2v_inf.vector_folders.projector import write_projector
from w2v_inf.vector_folders.read import read_file_or_folder
from w2v_inf.word2vec_format import read_vectors

pytestmark = pytest.mark.slow  # hundreds of examples

WORD = st.one_of(
    st.sampled_from(["a", "größe", "日本", "x-1", "0", "1.5", "-", "</s>", "नमस्ते"]).map(str.encode),
    st.sampled_from([("слово" * 20).encode()[:97], b"\xe6\x97", "ü".encode("latin-1")]),
)
"""Words of text, and some that end inside a character or are in another encoding."""


@st.composite
def vector_files(draw: st.DrawFn) -> tuple[bytes, bool, bool]:
    """Content of a file of vectors, whether it is binary, and whether it is as it should be."""
    words, columns = draw(st.lists(WORD, min_size=2, max_size=7)), draw(st.integers(1, 6))
    table = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(len(words), columns))
    binary, end = draw(st.booleans()), draw(st.sampled_from([b"\n", b" \n"]))
    if binary:
        end = draw(st.sampled_from([b"", b"\n"]))
        rows = [w + b" " + row.astype("<f4").tobytes() for w, row in zip(words, table, strict=True)]
    else:
        rows = [
            w + b"".join(b" %.6f" % x for x in row) for w, row in zip(words, table, strict=True)
        ]
    said = [len(words), columns]
    fault = draw(st.sampled_from(["", "", "header", "row", "rows", "number", "damage"]))
    which = draw(st.integers(0, len(rows) - 1))
    match fault:
        case "header":
            said[draw(st.integers(0, 1))] += draw(st.sampled_from([-2, -1, 1, 2]))
        case "row":
            rows[which] = draw(st.sampled_from([b"", rows[which][: len(rows[which]) // 2]]))
        case "rows":
            rows = draw(st.sampled_from([rows[:-1], [*rows, rows[which]]]))
        case "number":
            rows[which] += draw(st.sampled_from([b" 1.5", b"x", b"\0\0\0\0", b" nan", b" 1_0"]))
    content = b"%d %d\n" % tuple(said) + b"".join(row + end for row in rows)
    return damaged(content, draw) if fault == "damage" else content, binary, not fault


def read_by_gensim(path: Path, binary: bool) -> tuple[list[str], bytes]:
    from gensim.models import KeyedVectors

    if not binary:  # gensim wants single blanks
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        path.write_bytes(b"\n".join(b" ".join(line.split()) for line in text))
    keyed = KeyedVectors.load_word2vec_format(str(path), binary=binary, unicode_errors="replace")
    words = [word for word in keyed.index_to_key if word is not None]  # None: a repeated word
    return words, keyed.vectors[: len(words)].tobytes()


@fuzzed(500)
@given(vector_files())
def test_vectors_are_those_that_gensim_reads(case: tuple[bytes, bool, bool]) -> None:
    content, binary, intact = case
    logging.getLogger("gensim").setLevel(logging.ERROR)  # it warns of words that come twice
    with tempfile.TemporaryDirectory(dir=MEMORY) as root:
        path = Path(root, "vectors")
        path.write_bytes(content)
        try:
            vocab, vectors = read_vectors(path)
        except UserError as error:
            assert "\n" not in str(error) and "vectors" in str(error)
            assert not intact or "words are not UTF-8" in str(error)
            event("refused")
            return
        assert (vocab.words, vectors.tobytes()) == read_by_gensim(path, binary)
        event("read")


@fuzzed(300)
@given(st.data(), st.sampled_from(["hub", "projector"]))
def test_damaged_folders_of_vectors_are_whole_or_refused(data: st.DataObject, kind: str) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as root:
        folder = Path(root, "vectors")
        if kind == "hub":
            write_hub(folder, VOCAB, table(), {}, "# a card\n")
        else:
            write_projector(folder, VOCAB, table(), {})
        names = sorted({path.name for path in folder.iterdir()} - {"README.md", PROJECTOR})
        path = folder / data.draw(st.sampled_from(names))
        path.write_bytes(damaged(path.read_bytes(), data.draw))
        try:
            vocab, vectors = read_file_or_folder(folder)
        except UserError as error:
            assert "\n" not in str(error) and str(folder) in str(error)
            event("refused")
            return
        assert vocab.words == VOCAB.words and vectors.tobytes() == table().tobytes()
        event("read")


SKIPPABLE = b"\x5f\x2a\x4d\x18\3\0\0\0xyz"


def zstd(text: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(text)


Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes], list[bytes]]
CODECS: dict[str, Codec] = {
    "gzip": (gzip.compress, gzip.decompress, [bytes(1), bytes(3), bytes(512)]),
    "bzip2": (bz2.compress, bz2.decompress, []),
    "xz": (lzma.compress, lzma.decompress, [bytes(4), bytes(512)]),
    "zstd": (zstd, zstandard.decompress, [b"\x50\x2a\x4d\x18\2\0\0\0ab", SKIPPABLE]),
}
"""How a text is compressed, an independent reader, and what may stand between streams."""
NO_PADDING = {
    "gzip": [b"\0x", b"\n"],
    "bzip2": [bytes(1), bytes(4)],
    "xz": [bytes(n) for n in (1, 2, 3, 5)],
    "zstd": [bytes(4), SKIPPABLE[:-1]],
}
TEXTS = st.sampled_from([b"", b"one two\n", b"three\nfour five\n", b"long words here\n" * 60])


@st.composite
def compressed_texts(draw: st.DrawFn) -> tuple[bytes, list[bytes], bool]:
    """Streams of one format, the texts that are right for them, and whether all is whole."""
    name = draw(st.sampled_from(sorted(CODECS)))
    compress, decompress, padding = CODECS[name]
    parts = [compress(text) for text in draw(st.lists(TEXTS, min_size=1, max_size=4))]
    texts = [decompress(part) for part in parts]
    fault = draw(st.sampled_from(["", "", "junk", "damage"]))
    which, copies = draw(st.integers(0, len(parts) - 1)), [1]
    if padding:
        parts = [part + draw(st.sampled_from([b"", *padding])) for part in parts]
    if fault == "junk":
        junk = st.binary(min_size=1, max_size=9).filter(lambda junk: junk.strip(b"\0") == junk)
        parts[which] += draw(st.one_of(junk, st.sampled_from(NO_PADDING[name])))
    elif fault == "damage":
        whole, parts[which] = parts[which], damaged(parts[which], draw)
        # Damage may leave no stream, or two.
        copies += [0] * (not parts[which].strip(b"\0")) + [2] * (parts[which] == 2 * whole)
    before, after = b"".join(texts[:which]), b"".join(texts[which + 1 :])
    right = [before + texts[which] * number + after for number in copies]
    return b"".join(parts), right, not fault


@fuzzed(400)
@given(compressed_texts())
def test_compressed_texts_are_whole_or_refused(case: tuple[bytes, list[bytes], bool]) -> None:
    content, right, intact = case
    with tempfile.TemporaryDirectory(dir=MEMORY) as root:
        path, data_dir = Path(root, "x.txt"), Path(root, "data")
        path.write_bytes(content)
        try:
            found = lines(TextFile(path=str(path)), data_dir)
        except UserError as error:
            assert "\n" not in str(error) and "x.txt" in str(error)
            assert not intact or not right[0]
            assert not data_dir.exists() or os.listdir(data_dir) == []
            event("refused")
            return
        assert "".join(f"{line}\n" for line in found).encode() in right
        event("read")


FIELD = st.one_of(
    st.sampled_from(
        ["a", "B", "c/d", "/", ":", ": s", "#", "1.5", "-2e3", "nan", "1_0", '"a"', '"', ""]
    ),
    st.text(max_size=4),
)
LINE = st.tuples(st.sampled_from(["\t", " ", ","]), st.lists(FIELD, max_size=5))


@fuzzed(300)
@given(st.lists(LINE, max_size=5), st.sampled_from(["\n", "\r\n"]), st.binary(max_size=1))
def test_evaluation_files_are_read_or_refused_in_one_line(
    parts: list[tuple[str, list[str]]], end: str, tail: bytes
) -> None:
    """What is read has finite scores, and questions of known words."""
    text = end.join(blank.join(fields) for blank, fields in parts)
    vocab = Vocabulary(["a", "b", "c", "d"], np.arange(4, 0, -1))
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder, "f.txt")
        path.write_bytes(text.encode() + tail)
        for read in (read_similarities, lambda path: load_question_file(vocab, "f", path)):
            try:
                found = read(path)
            except UserError as error:
                assert str(error).isprintable() and str(path) in str(error)
                event("refused")
                continue
            event(f"read by {read.__name__}")
            if isinstance(found, list):
                assert found and all(np.isfinite(score) and x and y for x, y, score in found)
            else:
                ids = found.questions.ids
                assert ids.shape[1] >= 4 and bool((ids[:, :4] >= 0).all())
                assert len(ids) <= sum(found.questions.total)
