import numpy as np
import pytest

from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError

VOCAB = Vocabulary(["the", "of", "a", "ü", "zebra"], np.array([9, 5, 5, 2, 1]))


def test_truncate_keeps_the_words_of_at_least_min_count():
    assert [VOCAB.truncate(m, 0).words for m in (1, 2, 5, 6)] == [
        VOCAB.words,
        VOCAB.words[:4],
        VOCAB.words[:3],
        ["the"],
    ]
    assert len(VOCAB.truncate(10, 0)) == 0


def test_truncate_keeps_the_max_vocab_commonest():
    kept = VOCAB.truncate(2, 3)
    assert kept.words == ["the", "of", "a"] and kept.counts.tolist() == [9, 5, 5]
    assert VOCAB.truncate(2, 100).words == VOCAB.words[:4]


def test_id_is_the_position():
    assert VOCAB.id_of == {"the": 0, "of": 1, "a": 2, "ü": 3, "zebra": 4}
    assert VOCAB.truncate(5, 0).id_of == {"the": 0, "of": 1, "a": 2}


def test_save_and_load_give_the_same(tmp_path):
    odd = Vocabulary(
        ["a\u2028b", "c\x1cd", "\x85", "x"], np.array([4, 3, 2, 1])
    )  # line separators of Unicode, not of the file
    odd.save(tmp_path / "vocab.tsv")
    loaded = Vocabulary.load(tmp_path / "vocab.tsv")
    assert loaded.words == odd.words
    assert loaded.counts.dtype == np.int64 and loaded.counts.tolist() == [4, 3, 2, 1]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"the\t9\nof\n", "line 2 must be word<TAB>count"),
        (b"the\t9\nof\tmany\n", "line 2 must be word<TAB>count"),
        (b"the\t9\n\t3\n", "line 2 must be word<TAB>count"),
        (b"the\t9\nof\t-3\n", "line 2 must be word<TAB>count"),
        (b"the\t9\nof\t3\na\t4\n", "line 3: the count is above"),
        (b"the\t9\nof\t3\nthe\t1\n", "line 1: its word comes again"),
        (b"the\t9\nof\t3", "cut short at line 2"),
        (b"", "cut short at line 1"),
        (b"the\t9\n\xff\t3\n", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "vocab.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="vocab.tsv cannot be read"):
        Vocabulary.load(tmp_path / "vocab.tsv")
