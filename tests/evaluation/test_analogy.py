"""Analogies beside the reference and gensim; identity scores 0 %, planted offsets 100 %."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy_embeddings import Identity, Vectors, Vocab, full_vocab

from w2v_inf.config import Embedding
from w2v_inf.errors import UserError
from w2v_inf.evaluation import analogy
from w2v_inf.evaluation.analogy import (
    RULES,
    Questions,
    analogy_accuracy,
    analogy_hits,
    load_questions,
    read_questions,
)
from w2v_inf.reference import evaluation as reference


def random_questions(size: int, num_questions: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(size, size=(num_questions, 4)))


def reference_hits(embeddings: Tensor, ids: Tensor, rule: str) -> list[bool]:
    return [
        reference.analogy_margin(embeddings.double().numpy(), question, rule) > 0
        for question in ids.tolist()
    ]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size,width", [(4, 3), (5, 2), (12, 3), (60, 5)])
def test_hits_equal_the_reference_on_random_embeddings(
    rule: str, size: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several tiles, the last ones smaller; V = 4 is less than one tile.
    monkeypatch.setitem(analogy.TILES, "cpu", (7, 5))
    generator = torch.Generator().manual_seed(size)
    u = torch.randn(size, width, generator=generator, dtype=torch.float64)
    # Most words are in no question.
    asked = torch.randperm(size, generator=generator)[: max(4, size // 3)]
    ids = asked[random_questions(len(asked), 60, seed=size)]
    assert analogy_hits(Vectors(u), ids, [rule])[rule].tolist() == reference_hits(u, ids, rule)


@pytest.mark.parametrize("rule", RULES)
def test_every_rival_counts(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy of the answer anywhere in the vocabulary makes a tie, which is a miss."""
    monkeypatch.setitem(analogy.TILES, "cpu", (1, 3))
    ids = torch.tensor([[0, 1, 2, 3]])
    for rival in range(4, 15):
        u = torch.cat(
            [torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1]]), -torch.ones(11, 3)]
        )
        assert analogy_hits(Vectors(u), ids, [rule])[rule].item()
        u[rival] = u[3]
        assert not analogy_hits(Vectors(u), ids, [rule])[rule].item()


def test_similarities_are_never_negative() -> None:
    attract, repel = analogy._factors(torch.tensor([[-1.0000001, -1.0, 1.0]]), "3cosmul")
    assert attract.tolist() == [[0.0, 0.0, 1.0]] and repel.min() > 0


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(4, 12), st.integers(1, 3))
def test_hits_equal_the_reference_with_ties_and_zero_rows(
    data: st.DataObject, size: int, width: int
) -> None:
    """Small integers have exact inner products, so equal rows tie exactly.

    Zero rows and repeated words come up by chance.
    """
    entries = data.draw(st.lists(st.integers(-2, 2), min_size=size * width, max_size=size * width))
    u = torch.tensor(entries, dtype=torch.float64).reshape(size, width)
    ids = torch.tensor(
        data.draw(
            st.lists(
                st.lists(st.integers(0, size - 1), min_size=4, max_size=4), min_size=1, max_size=8
            )
        )
    )
    hits = analogy_hits(Vectors(u), ids)
    for rule in RULES:
        assert hits[rule].tolist() == reference_hits(u, ids, rule)


@pytest.mark.parametrize("rule", RULES)
def test_special_questions(rule: str) -> None:
    u = torch.eye(8, dtype=torch.float64)[[0, 1, 2, 3, 4, 5, 6, 6]]
    u[3] = u[1] + u[2]  # 0 : 1 :: 2 : 3 holds
    u[5] = u[1] + u[4]  # 0 : 1 :: 4 : 5 holds, until word 6 becomes its copy
    held = torch.tensor([[0, 1, 2, 3], [0, 1, 4, 5], [0, 1, 2, 1], [0, 1, 1, 3], [0, 0, 0, 0]])
    answered = analogy_hits(Vectors(u), held)[rule]
    # In [0, 1, 1, 3] words 3 and 5 tie.
    assert answered.tolist() == [True, True, False, False, False]
    u[6] = u[5]
    assert analogy_hits(Vectors(u), held)[rule].tolist() == [True, False, False, False, False]
    u[3] = 0
    assert not analogy_hits(Vectors(u), held)[rule].any()


@pytest.mark.parametrize("rule", RULES)
def test_excluded_words_never_answer(rule: str) -> None:
    """b has by far the best score, and the answer the best of the others."""
    u = torch.tensor(
        [[1.0, 0, 0], [0, 1, 0], [0, 0.9, 0.1], [0, 0.5, 0.2], [1, 0, 0.3]], dtype=torch.float64
    )
    assert analogy_hits(Vectors(u), torch.tensor([[0, 1, 2, 3]]))[rule].tolist() == [True]


def test_opposite_vector_gives_no_nan() -> None:
    """3CosMul divides by a similarity of 0 + epsilon, and multiplies by one of 0."""
    u = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0, 0], [1, 1]])
    ids = torch.cartesian_prod(*[torch.arange(6)] * 4)
    hits = analogy_hits(Vectors(u.double()), ids)
    assert hits["3cosmul"].tolist() == reference_hits(u, ids, "3cosmul")


def test_float32_errs_only_near_ties() -> None:
    generator = torch.Generator().manual_seed(5)
    u = torch.randn(60, 8, generator=generator)
    ids = random_questions(60, 200, seed=5)
    for rule, hits in analogy_hits(Vectors(u), ids).items():
        margins = [
            reference.analogy_margin(u.double().numpy(), question, rule)
            for question in ids.tolist()
        ]
        assert all(
            hit == (margin > 0)
            for hit, margin in zip(hits.tolist(), margins, strict=True)
            if abs(margin) > 1e-5
        )


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(5, 10))
def test_several_right_answers_equal_the_reference(data: st.DataObject, size: int) -> None:
    """Answers among a, b and c, the same answer twice, ties and -1 come up by chance."""
    entries = data.draw(st.lists(st.integers(-2, 2), min_size=size * 2, max_size=size * 2))
    u = torch.tensor(entries, dtype=torch.float64).reshape(size, 2)
    word, more = st.integers(0, size - 1), st.integers(-1, size - 1)
    row = st.tuples(word, word, word, word, more, more)
    ids = torch.tensor(data.draw(st.lists(row, min_size=1, max_size=8)))
    for rule, hits in analogy_hits(Vectors(u), ids).items():
        assert hits.tolist() == reference_hits(u, ids, rule)


@pytest.mark.parametrize("rule", RULES)
def test_only_the_first_words_are_searched(rule: str) -> None:
    u = torch.randn(60, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    ids = random_questions(20, 200, seed=6)
    form = torch.arange(60)
    form[50:] = torch.arange(10)  # forms of searched words, but not searched themselves
    hits = analogy_hits(Vectors(u), ids, [rule], first_form=form, num_searched=30)[rule]
    assert hits.tolist() == reference_hits(u[:30], ids, rule)
    assert hits.tolist() != reference_hits(u, ids, rule)


def test_questions_in_parts_have_the_same_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    u = torch.randn(50, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    ids = random_questions(50, 90, seed=7)
    expected = analogy_hits(Vectors(u), ids)
    monkeypatch.setattr(analogy, "MAX_ROWS", 2)  # one question may have three
    for rule, hits in analogy_hits(Vectors(u), ids).items():
        assert torch.equal(hits, expected[rule])


def test_tiling_and_row_scale_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(300, 10, generator=generator)
    ids = random_questions(40, 500, seed=1)
    expected = analogy_hits(Vectors(u), ids)
    scale = 2.0 ** torch.randint(-8, 9, (300, 1), generator=generator)
    monkeypatch.setitem(analogy.TILES, "cpu", (33, 17))
    for other in (u, u * scale):
        hits = analogy_hits(Vectors(other), ids)
        assert all(torch.equal(hits[rule], expected[rule]) for rule in RULES)


def test_identity_scores_exactly_zero() -> None:
    vocab = full_vocab(num_others=100)
    questions = load_questions(vocab)
    result = analogy_accuracy(Identity(len(vocab)), questions)
    assert [result[rule]["total"] for rule in RULES] == [
        {"correct": 0, "questions": 19544, "total": 19544, "accuracy": 0.0}
    ] * 2


def test_question_file() -> None:
    questions = load_questions(full_vocab())
    assert (len(questions), len(questions.sections), sum(questions.total)) == (19544, 14, 19544)
    assert questions.seen == questions.total and questions.unknown_words == 0
    assert questions.sections[:5] == [
        "capital-common-countries",
        "capital-world",
        "currency",
        "city-in-state",
        "family",
    ]


def test_unknown_words_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(": pairs\nA b c D\na b c unknown\n\n: gram1\nb a d c\n: gram2\nx y z a\n")
    vocab = Vocab(["a", "b", "c", "d", "e"])
    questions = load_questions(vocab, path)
    assert questions.ids.tolist() == [[0, 1, 2, 3], [1, 0, 3, 2]]
    assert (questions.seen, questions.total) == ([1, 1, 0], [2, 1, 1])
    assert questions.unknown_words == 4  # unknown, x, y, z

    u = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [-1, -1, -1]])
    result = analogy_accuracy(Vectors(u), questions, ["3cosadd"])["3cosadd"]
    assert result["sections"]["pairs"] == {
        "correct": 1,
        "questions": 1,
        "total": 2,
        "accuracy": 100.0,
    }
    assert result["sections"]["gram2"] == {
        "correct": 0,
        "questions": 0,
        "total": 1,
        "accuracy": None,
    }
    assert result["semantic"] == result["sections"]["pairs"]
    assert result["syntactic"]["questions"] == 1 and result["total"]["total"] == 4


def test_no_question_seen() -> None:
    questions = load_questions(Vocab(["xyzzy", "plugh"]))
    result = analogy_accuracy(Vectors(torch.ones(2, 1)), questions)
    assert result["3cosmul"]["total"] == {
        "correct": 0,
        "questions": 0,
        "total": 19544,
        "accuracy": None,
    }


def test_bad_question_file_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(": pairs\na b c d\na b c\n")
    with pytest.raises(UserError, match="line 3"):
        read_questions(path)


def test_bad_arguments() -> None:
    model = Vectors(torch.eye(4))
    with pytest.raises(ValueError, match="3cosadd, 3cosmul, got cosine"):
        analogy_hits(model, torch.zeros(1, 4, dtype=torch.int64), ["cosine"])
    with pytest.raises(ValueError, match=r"\[Q, 4\]"):
        analogy_hits(model, torch.zeros(1, 3, dtype=torch.int64))


def planted(num_pairs: int, noise: float = 0.0) -> tuple[Vocab, Tensor, list[tuple[str, str]]]:
    """Pairs x_i, y_i = x_i + offset, and as many words at right angles to all of them."""
    n = num_pairs
    generator = torch.Generator().manual_seed(0)
    axes = torch.eye(2 * n + 1)
    u = torch.cat([axes[:n], axes[:n] + axes[2 * n], axes[n : 2 * n]])  # [3 n, 2 n + 1]
    words = [f"{kind}{i}" for kind in "xyz" for i in range(n)]
    pairs = list(zip(words[:n], words[n : 2 * n], strict=True))
    return Vocab(words), u + noise * torch.randn(u.shape, generator=generator), pairs


def write_questions(path: Path, pairs: list[tuple[str, str]]) -> None:
    lines = [" ".join((*p, *q)) for p in pairs for q in pairs if p != q]
    path.write_text(": planted\n" + "\n".join(lines) + "\n")


def test_planted_embeddings_score_100(tmp_path: Path) -> None:
    vocab, u, pairs = planted(12)
    write_questions(tmp_path / "q.txt", pairs)
    result = analogy_accuracy(Vectors(u), load_questions(vocab, tmp_path / "q.txt"))
    assert [result[rule]["total"]["accuracy"] for rule in RULES] == [100.0, 100.0]


GensimCase = tuple[Path, Questions, Tensor, Any]


@pytest.fixture(scope="module")
def gensim_case(
    tmp_path_factory: pytest.TempPathFactory,
) -> GensimCase:
    gensim = pytest.importorskip("gensim")
    path = tmp_path_factory.mktemp("gensim") / "q.txt"
    vocab, u, pairs = planted(14, noise=0.2)
    write_questions(path, pairs)
    vectors = gensim.models.KeyedVectors(u.shape[1])
    vectors.add_vectors(vocab.words, u.numpy())
    return path, load_questions(vocab, path), u, vectors


def test_3cosadd_agrees_with_gensim(
    gensim_case: GensimCase,
) -> None:
    path, questions, u, vectors = gensim_case
    _, sections = vectors.evaluate_word_analogies(str(path), restrict_vocab=len(u))
    correct = {tuple(word.lower() for word in question) for question in sections[0]["correct"]}
    expected = [
        tuple(vectors.index_to_key[i] for i in question) in correct
        for question in questions.ids.tolist()
    ]
    assert 0.1 < np.mean(expected) < 0.9
    assert analogy_hits(Vectors(u), questions.ids, ["3cosadd"])["3cosadd"].tolist() == expected


def cased(vectors: Any, seed: int = 0) -> tuple[Vocab, Tensor]:
    """Each word in capitals, capitalised or lower-case, and half of them twice, in random order."""
    rng = np.random.default_rng(seed)
    words, rows = [], []
    for word, row in zip(vectors.index_to_key, vectors.vectors, strict=True):
        forms = rng.permutation([word, word.capitalize(), word.upper()])
        for form in forms[: rng.integers(1, 3)]:
            words.append(str(form))
            rows.append(row + 0.1 * rng.standard_normal(len(row)))
    order = rng.permutation(len({*words}))
    first = {word: row for word, row in reversed(list(zip(words, rows, strict=True)))}
    kept = [list(first)[i] for i in order]
    return Vocab(kept), torch.tensor(np.array([first[word] for word in kept]), dtype=torch.float32)


def test_cased_vectors_agree_with_gensim(gensim_case: GensimCase) -> None:
    from gensim.models import KeyedVectors

    path, plain_questions, _, plain = gensim_case
    vocab, u = cased(plain)
    keyed = KeyedVectors(u.shape[1])
    keyed.add_vectors(vocab.words, u.numpy())
    _, sections = keyed.evaluate_word_analogies(str(path), restrict_vocab=len(u))
    correct = {tuple(word.lower() for word in question) for question in sections[0]["correct"]}
    questions = load_questions(vocab, path)
    assert len(questions) == len(plain_questions) == sum(questions.total)
    expected = [
        tuple(vocab.words[i].lower() for i in question) in correct
        for question in questions.ids.tolist()
    ]
    assert 0.1 < np.mean(expected) < 0.9
    result = analogy_accuracy(Vectors(u), questions, ["3cosadd"])["3cosadd"]["total"]
    assert result["correct"] == sum(expected) == len(sections[0]["correct"])
    hits = analogy_hits(Vectors(u), questions.ids, ["3cosadd"], first_form=questions.first_form)
    assert hits["3cosadd"].tolist() == expected


def test_all_questions_are_asked_of_cased_vectors(tmp_path: Path) -> None:
    words = [word.capitalize() for word in full_vocab().words]
    # The commonest form counts.
    vocab = Vocab([*words, "paris", "PARIS", *(word.lower() for word in words[:9])])
    questions = load_questions(vocab)
    assert (len(questions), sum(questions.total)) == (19544, 19544)
    assert {vocab.words[i] for i in questions.ids.unique().tolist()} == set(words)


# gensim itself calls the deprecated function.
@pytest.mark.filterwarnings("ignore:Call to deprecated `init_sims`:DeprecationWarning")
def test_3cosmul_agrees_with_gensim(
    gensim_case: GensimCase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(analogy, "MUL_EPSILON", 1e-6)  # gensim's
    _, questions, u, vectors = gensim_case
    expected = []
    for a, b, c, answer in (
        [vectors.index_to_key[i] for i in question] for question in questions.ids.tolist()
    ):
        expected.append(
            vectors.most_similar_cosmul(positive=[b, c], negative=[a], topn=1)[0][0] == answer
        )
    assert 0.1 < np.mean(expected) < 0.9
    assert analogy_hits(Vectors(u), questions.ids, ["3cosmul"])["3cosmul"].tolist() == expected


@pytest.mark.parametrize("embedding", list(Embedding))
def test_other_embeddings(embedding: Embedding) -> None:
    generator = torch.Generator().manual_seed(2)
    model = Vectors(
        torch.randn(20, 4, generator=generator).double(),
        torch.randn(20, 4, generator=generator).double(),
    )
    ids = random_questions(20, 50, seed=2)
    hits = analogy_hits(model, ids, ["3cosadd"], embedding)["3cosadd"].tolist()
    assert hits == reference_hits(model.matrix(embedding), ids, "3cosadd")
