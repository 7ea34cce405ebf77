"""Encoded corpora are read back, and damage is found."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2v_inf.config import CorpusConfig
from w2v_inf.corpus.encode import encode
from w2v_inf.corpus.encoded_folder import Origin
from w2v_inf.corpus.load import EncodedCorpus, check_tokens, open_corpus, select_vocabulary
from w2v_inf.errors import UserError

ORIGIN = Origin("file", "some.txt", "00" * 32, "", "none")


TEXT = b"the cat sat on the mat\nthe dog\n\n  on a log \n"


def encoded(chunks: list[bytes], folder: Path) -> EncodedCorpus:
    encode(chunks, folder, ORIGIN)
    return open_corpus(folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    """Edit a byte in the middle; the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_info(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "file, damage",
    [
        ("tokens.bin", cut),
        ("tokens.bin", Path.unlink),
        ("tokens.bin", flip),
        ("documents.npy", flip),
        ("vocab.tsv", flip),
        ("documents.npy", cut),
        ("documents.npy", Path.unlink),
        ("documents.npy", lambda path: np.save(path, np.array([0, 8, 6, 11]))),
        ("documents.npy", lambda path: np.save(path, np.array([0, 6, 8, 12]))),
        ("documents.npy", lambda path: np.save(path, np.array([0, 11]))),
        ("vocab.tsv", cut),
        ("vocab.tsv", Path.unlink),
        ("vocab.tsv", lambda path: path.write_text("the\t3\non\t2\n")),
        ("corpus.json", cut),
        ("corpus.json", Path.unlink),
        ("corpus.json", lambda path: path.write_text("[]")),
        ("corpus.json", lambda path: edit_info(path, format_version=0)),
    ],
)
def test_a_damaged_cache_names_the_file_and_the_folder_to_delete(tmp_path, file, damage):
    encode([TEXT], tmp_path / "c", ORIGIN)
    damage(tmp_path / "c" / file)
    with pytest.raises(UserError, match=f"{file}.*delete .*{tmp_path / 'c'}") as caught:
        check_tokens(open_corpus(tmp_path / "c"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["tokens.bin", "documents.npy", "vocab.tsv", "corpus.json"])
def test_a_cache_that_may_not_be_read_is_not_called_damaged(tmp_path, file, monkeypatch):
    encode([TEXT], tmp_path / "c", ORIGIN)
    opened = Path.open

    def refuse(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == file:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=rf"{file} cannot be read \(Permission denied\)") as caught:
        check_tokens(open_corpus(tmp_path / "c"))
    assert "delete" not in str(caught.value)


def test_select_vocabulary_needs_two_words(tmp_path):
    corpus = encoded([TEXT], tmp_path / "c")
    assert select_vocabulary(corpus, CorpusConfig(name="file", min_count=2)).words == ["the", "on"]
    assert len(select_vocabulary(corpus, CorpusConfig(name="file", min_count=1, max_vocab=4))) == 4
    with pytest.raises(
        UserError, match="corpus.min_count=3 leaves 1 word of 8, at least 2 are needed: lower it"
    ):
        select_vocabulary(corpus, CorpusConfig(name="file", min_count=3))
