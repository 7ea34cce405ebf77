"""Pairs of words: their files, the questions that they make, and the count of Karkada et al."""

from pathlib import Path

import pytest
import torch
from toy_embeddings import Vectors, Vocab, full_vocab

from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import analogy_accuracy, read_questions
from w2v_inf.evaluation.datasets import files_of
from w2v_inf.evaluation.pairs import (
    load_pairs,
    load_question_file,
    questions_words_pairs,
    read_pairs,
)
from w2v_inf.reference import evaluation as reference


def test_every_pair_of_known_pairs_is_asked() -> None:
    vocab = Vocab(["a", "b", "c", "d", "e", "E"])
    pairs = [
        ("a", ("none", "b")),
        ("c", ("d", "E")),
        ("x", ("a",)),
        ("a", ("none",)),
        ("e", ("a",)),
    ]
    questions = load_pairs(vocab, [("one", [*pairs, pairs[0]]), ("empty", []), ("two", pairs[:1])])
    assert questions.ids.tolist() == [
        [0, 1, 2, 3, 4],
        [0, 1, 4, 0, -1],
        [2, 3, 0, 1, -1],
        [2, 3, 4, 0, -1],
        [4, 0, 0, 1, -1],
        [4, 0, 2, 3, 4],
    ]
    assert (questions.seen, questions.total) == ([6, 0, 0], [20, 0, 0])
    assert questions.unknown_words == 2 and questions.num_searched is None


def test_only_the_first_words_are_known() -> None:
    vocab = Vocab(["a", "b", "c", "d", "B"])
    questions = load_pairs(vocab, [("one", [("a", ("b",)), ("c", ("d",))])], 3)
    assert (questions.seen, questions.total, questions.unknown_words) == ([0], [2], 1)
    assert questions.num_searched == 3
    longer = load_pairs(vocab, [("one", [("a", ("b",)), ("c", ("d",))])], 10)
    assert longer.seen == [2] and longer.num_searched is None


def test_the_pairs_of_questions_words() -> None:
    """Counted without our code: distinct halves of the lines of each section."""
    categories = questions_words_pairs()
    expected = {
        name: {tuple(half) for q in questions for half in (q[:2], q[2:])}
        for name, questions in read_questions()
    }
    assert {name: {(a, b) for a, (b,) in pairs} for name, pairs in categories} == expected
    counts = [len(pairs) for _, pairs in categories]
    assert counts == [len(pairs) for pairs in expected.values()]
    questions = load_pairs(full_vocab(), categories)
    assert questions.seen == questions.total == [n * (n - 1) for n in counts]


def test_accuracy_of_pairs_equals_a_plain_count() -> None:
    vocab = full_vocab(num_others=30)
    order = torch.randperm(len(vocab), generator=torch.Generator().manual_seed(0)).tolist()
    vocab = Vocab([vocab.words[i] for i in order])
    u = torch.randn(len(vocab), 4, generator=torch.Generator().manual_seed(1)).double()
    name = "family"
    pairs = dict(questions_words_pairs())[name]
    ids = {word: i for i, word in enumerate(vocab.words[:300])}
    known = [(ids[a], ids[b]) for a, (b,) in pairs if a in ids and b in ids]
    assert len(known) > 1
    margins = [
        reference.analogy_margin(u[:300].numpy(), [*p, *q], "3cosadd")
        for p in known
        for q in known
        if p != q
    ]
    questions = load_pairs(vocab, [(name, pairs)], 300)
    total = analogy_accuracy(Vectors(u), questions, ["3cosadd"])["3cosadd"]["total"]
    assert (total["correct"], total["questions"]) == (sum(m > 0 for m in margins), len(margins))


def test_formats_are_told_apart_by_content(tmp_path: Path) -> None:
    vocab, path = Vocab(["a", "b", "c", "d"]), tmp_path / "any.name"
    for text, kind, seen in (
        ("\ufeff: one\nA b c d\r\n", "questions-words", [1]),
        ("\n a\tB/x \n c\td\n", "pairs", [2]),
        ("a b\nc x/d", "pairs", [2]),
    ):
        path.write_text(text)
        found = load_question_file(vocab, "name", path)
        assert (found.format, found.questions.seen) == (kind, seen)
    assert found.questions.sections == ["name"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\nc\n", "line 2: expected a word and its answers"),
        ("a\tb\tc\n", "line 1: expected a word and its answers"),
        ("a b c d\n", "line 1: expected a word and its answers"),
        ("a\t/\n", "line 1: expected a word and its answers"),
        (": s\na b c d\na\tb\n", "line 3: expected ': section' first and then four words"),
        ("", "holds no line: give a text file"),
        ("a\tb\0\n", "is not text: give a text file"),
        (b"a\tb\xff\n", "must be UTF-8 text (byte 3 is not UTF-8): convert it"),
    ],
)
def test_a_bad_question_file_is_one_line(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        load_question_file(Vocab(["a", "b"]), "q", path)
    said = str(caught.value)
    assert str(path) in said and message in said and "\n" not in said


def test_answers_may_have_blanks_between_tabs(tmp_path: Path) -> None:
    (tmp_path / "q").write_text("new york\tUSA\n")
    assert read_pairs(tmp_path / "q") == [("new york", ("usa",))]


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.txt", "deep/er/a.TSV", "c.csv", "._b.txt", "readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(files_of(tmp_path, "x")) == ["b.txt", "c.csv", "deep/er/a.TSV"]
    assert files_of(tmp_path / "readme.md", "x") == {"readme.md": tmp_path / "readme.md"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"x: .*/empty holds no file that ends in .txt, .tsv, .csv"):
        files_of(tmp_path / "empty", "x")
    with pytest.raises(UserError, match=r"x: .*/none not found: give a file, or a folder of files"):
        files_of(tmp_path / "none", "x")
