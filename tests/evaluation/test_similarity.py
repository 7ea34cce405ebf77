"""Evaluation beside its twin, gensim and closed cases: identity embeddings score 0, planted ones 100."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import gensim
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score
from torch import Tensor

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
from w2v_inf.evaluation.places import Places, pca, place_gram, separation
from w2v_inf.evaluation.similarity import (
    SIMILARITY_SETS,
    evaluate_model,
    nearest_neighbours,
    read_similarities,
    word_similarity,
)
from w2v_inf.reference import evaluation as reference_evaluate


@dataclass
class Vocab:
    words: list[str]
    id_of: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.id_of = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)


@dataclass
class Vectors:
    """The smallest model that can be asked: explicit input and output embeddings."""

    u: Tensor
    w: Tensor | None = None

    def _matrix(self, embedding: Embedding) -> Tensor:
        if embedding is Embedding.input:
            return self.u
        assert self.w is not None
        return self.w if embedding is Embedding.output else self.u + self.w

    def gram(self, rows: Tensor, columns: Tensor | None, embedding: Embedding) -> Tensor:
        matrix = self._matrix(embedding)
        return matrix[rows] @ (matrix if columns is None else matrix[columns]).T

    def squared_norms(self, embedding: Embedding) -> Tensor:
        return self._matrix(embedding).square().sum(1)


class Identity:
    """Embeddings that never moved: the NTK limit."""

    def __init__(self, size: int) -> None:
        self.size = size

    def gram(self, rows: Tensor, columns: Tensor | None, embedding: Embedding) -> Tensor:
        return torch.eye(self.size)[rows][:, slice(None) if columns is None else columns]

    def squared_norms(self, embedding: Embedding) -> Tensor:
        return torch.ones(self.size)


def full_vocab(num_others: int = 0) -> Vocab:
    """All 905 question words and some words that no question has."""
    words = {
        word for _, questions in read_questions() for question in questions for word in question
    }
    return Vocab(sorted(words) + [f"other{i}" for i in range(num_others)])


def random_questions(size: int, num_questions: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(size, size=(num_questions, 4)))


def twin_hits(embeddings: Tensor, ids: Tensor, rule: str) -> list[bool]:
    return [
        reference_evaluate.analogy_margin(embeddings.double().numpy(), question, rule) > 0
        for question in ids.tolist()
    ]


# Analogies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size,width", [(4, 3), (5, 2), (12, 3), (60, 5)])
def test_hits_equal_twin_on_random_embeddings(
    rule: str, size: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        analogy.TILES, "cpu", (7, 5)
    )  # several tiles, the last ones ragged; V = 4 is below a tile
    generator = torch.Generator().manual_seed(size)
    u = torch.randn(size, width, generator=generator, dtype=torch.float64)
    asked = torch.randperm(size, generator=generator)[
        : max(4, size // 3)
    ]  # most words are only rivals
    ids = asked[random_questions(len(asked), 60, seed=size)]
    assert analogy_hits(Vectors(u), ids, [rule])[rule].tolist() == twin_hits(u, ids, rule)


@pytest.mark.parametrize("rule", RULES)
def test_every_rival_counts(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy of the answer anywhere in the vocabulary turns the hit into a tie, that is a miss."""
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
def test_hits_equal_twin_with_ties_and_zero_rows(
    data: st.DataObject, size: int, width: int
) -> None:
    """Small integers: inner products are exact, so equal rows tie exactly; zero rows and repeated words come by themselves."""
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
        assert hits[rule].tolist() == twin_hits(u, ids, rule)


@pytest.mark.parametrize("rule", RULES)
def test_special_questions(rule: str) -> None:
    u = torch.eye(8, dtype=torch.float64)[[0, 1, 2, 3, 4, 5, 6, 6]]
    u[3] = u[1] + u[2]  # 0 : 1 :: 2 : 3 holds
    u[5] = u[1] + u[4]  # 0 : 1 :: 4 : 5 holds, until word 6 becomes its copy
    held = torch.tensor([[0, 1, 2, 3], [0, 1, 4, 5], [0, 1, 2, 1], [0, 1, 1, 3], [0, 0, 0, 0]])
    answered = analogy_hits(Vectors(u), held)[rule]
    assert answered.tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]  # in [0, 1, 1, 3] words 3 and 5 tie
    u[6] = u[5]
    assert analogy_hits(Vectors(u), held)[rule].tolist() == [True, False, False, False, False]
    u[3] = 0
    assert not analogy_hits(Vectors(u), held)[rule].any()


@pytest.mark.parametrize("rule", RULES)
def test_excluded_words_never_answer(rule: str) -> None:
    """b is by far the best-scored word and the answer is the best of the rest."""
    u = torch.tensor(
        [[1.0, 0, 0], [0, 1, 0], [0, 0.9, 0.1], [0, 0.5, 0.2], [1, 0, 0.3]], dtype=torch.float64
    )
    assert analogy_hits(Vectors(u), torch.tensor([[0, 1, 2, 3]]))[rule].tolist() == [True]


def test_opposite_vector_gives_no_nan() -> None:
    """3CosMul divides by a similarity of 0 + epsilon, and multiplies by one of 0."""
    u = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0, 0], [1, 1]])
    ids = torch.cartesian_prod(*[torch.arange(6)] * 4)
    hits = analogy_hits(Vectors(u.double()), ids)
    assert hits["3cosmul"].tolist() == twin_hits(u, ids, "3cosmul")


def test_float32_errs_only_near_ties() -> None:
    generator = torch.Generator().manual_seed(5)
    u = torch.randn(60, 8, generator=generator)
    ids = random_questions(60, 200, seed=5)
    for rule, hits in analogy_hits(Vectors(u), ids).items():
        margins = [
            reference_evaluate.analogy_margin(u.double().numpy(), question, rule)
            for question in ids.tolist()
        ]
        assert all(
            hit == (margin > 0)
            for hit, margin in zip(hits.tolist(), margins, strict=True)
            if abs(margin) > 1e-5
        )


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
    assert questions.seen == questions.total
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


@pytest.fixture(scope="module")
def gensim_case(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Questions, Tensor, gensim.models.KeyedVectors]:
    path = tmp_path_factory.mktemp("gensim") / "q.txt"
    vocab, u, pairs = planted(14, noise=0.2)
    write_questions(path, pairs)
    vectors = gensim.models.KeyedVectors(u.shape[1])
    vectors.add_vectors(vocab.words, u.numpy())
    return path, load_questions(vocab, path), u, vectors


def test_3cosadd_agrees_with_gensim(
    gensim_case: tuple[Path, Questions, Tensor, gensim.models.KeyedVectors],
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


@pytest.mark.filterwarnings(
    "ignore:Call to deprecated `init_sims`:DeprecationWarning"
)  # gensim calls it itself
def test_3cosmul_agrees_with_gensim(
    gensim_case: tuple[Path, Questions, Tensor, gensim.models.KeyedVectors],
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
    assert hits == twin_hits(model._matrix(embedding), ids, "3cosadd")


# Similarity and neighbours -------------------------------------------------------------------------------------------


def similarity_vocab() -> Vocab:
    pairs = [
        pair
        for file in SIMILARITY_SETS.values()
        for pair in read_similarities(analogy.gensim_data(file))
    ]
    return Vocab(
        sorted({word for pair in pairs for word in pair[:2]})[::2] + ["tiger", "cat", "paper"]
    )


def test_word_similarity_equals_twin_and_scipy() -> None:
    vocab = similarity_vocab()
    u = torch.randn(len(vocab), 6, generator=torch.Generator().manual_seed(3)).double()
    u[1] = 0
    result = word_similarity(Vectors(u), vocab)
    assert {name: entry["total"] for name, entry in result.items()} == {
        "wordsim353": 353,
        "simlex999": 999,
    }
    for name, file in SIMILARITY_SETS.items():
        pairs = read_similarities(analogy.gensim_data(file))
        known = [
            (vocab.id_of[x], vocab.id_of[y], score)
            for x, y, score in pairs
            if x in vocab.id_of and y in vocab.id_of
        ]
        cosines = [reference_evaluate.cosine(u.numpy()[x], u.numpy()[y]) for x, y, _ in known]
        scores = [score for _, _, score in known]
        assert result[name]["pairs"] == len(known) > 20
        assert result[name]["spearman"] == pytest.approx(
            reference_evaluate.spearman(cosines, scores), abs=1e-10
        )
        assert result[name]["spearman"] == pytest.approx(
            scipy.stats.spearmanr(cosines, scores)[0], abs=1e-10
        )


def test_word_similarity_is_none_without_information() -> None:
    vocab = similarity_vocab()
    constant = word_similarity(Identity(len(vocab)), vocab)
    assert constant["wordsim353"]["spearman"] is None and constant["wordsim353"]["pairs"] > 3
    few = word_similarity(Vectors(torch.eye(3)), Vocab(["tiger", "cat", "xyzzy"]))
    assert few["wordsim353"] == {"spearman": None, "pairs": 2, "total": 353}


@pytest.mark.parametrize("k", [1, 3, 50])
def test_neighbours_equal_twin(k: int) -> None:
    u = torch.from_numpy(
        np.random.default_rng(4).integers(-1, 2, size=(15, 3))
    ).double()  # many exact ties, zero rows
    vocab = Vocab([f"w{i}" for i in range(15)])
    result = nearest_neighbours(Vectors(u), vocab, ["w3", "unknown", "w0", "w3"], k)
    assert list(result) == ["w3", "w0"]
    for word, neighbours in result.items():
        expected = reference_evaluate.nearest_neighbours(u.numpy(), vocab.id_of[word], k)
        assert neighbours == [[vocab.words[i], value] for i, value in expected]


def test_neighbours_of_unknown_words() -> None:
    assert nearest_neighbours(Vectors(torch.eye(2)), Vocab(["a", "b"]), ["c"]) == {}


# Places --------------------------------------------------------------------------------------------------------------


def test_places_and_their_file(tmp_path: Path) -> None:
    vocab = full_vocab(num_others=3)
    u = torch.randn(len(vocab), 7, generator=torch.Generator().manual_seed(6))
    places = place_gram(Vectors(u), vocab)
    assert (len(places.words), int(places.is_state.sum()), places.gram.dtype) == (
        94,
        27,
        np.float64,
    )
    assert (
        places.is_state[places.words.index("texas")]
        and not places.is_state[places.words.index("houston")]
    )
    i, j = places.words.index("texas"), places.words.index("chicago")
    assert places.gram[i, j] == pytest.approx(
        float(u[vocab.id_of["texas"]] @ u[vocab.id_of["chicago"]]), rel=1e-5
    )

    places.save(tmp_path / "places.npz")
    loaded = Places.load(tmp_path / "places.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["places.npz"]
    assert loaded.words == places.words
    assert np.array_equal(loaded.is_state, places.is_state) and np.array_equal(
        loaded.gram, places.gram
    )


def test_no_places(tmp_path: Path) -> None:
    places = place_gram(Vectors(torch.eye(2)), Vocab(["a", "b"]))
    places.save(tmp_path / "places.npz")
    loaded = Places.load(tmp_path / "places.npz")
    assert loaded.words == [] and loaded.gram.shape == (0, 0)
    assert pca(loaded.gram)[0].shape == (0, 2)
    assert set(separation(loaded.gram, loaded.is_state).values()) == {None}


@pytest.mark.parametrize("num_places,width", [(30, 8), (10, 40), (6, 2)])
def test_pca_of_gram_is_pca_of_embeddings(num_places: int, width: int) -> None:
    points = np.random.default_rng(width).normal(size=(num_places, width)) + 5.0
    coordinates, ratio = pca(points @ points.T)
    expected, expected_ratio = reference_evaluate.pca(points)
    np.testing.assert_allclose(coordinates, expected, atol=1e-9)
    np.testing.assert_allclose(ratio, expected_ratio, atol=1e-12)


def test_pca_of_too_few_points() -> None:
    points = np.array([[1.0, 0.0], [0.0, 1.0]])
    coordinates, ratio = pca(points @ points.T, num_components=3)
    np.testing.assert_allclose(np.abs(coordinates), [[np.sqrt(0.5), 0, 0]] * 2, atol=1e-12)
    np.testing.assert_allclose(ratio, [1, 0, 0], atol=1e-12)
    coordinates, ratio = pca(np.ones((4, 4)))  # four times the same point
    assert not coordinates.any() and not ratio.any()


def test_separation_of_clusters_and_of_noise() -> None:
    rng = np.random.default_rng(7)
    is_state = np.arange(94) >= 67
    noise = rng.normal(size=(94, 64))
    apart = noise + 8.0 * is_state[:, None] * rng.normal(size=64)
    near, far = (separation(points @ points.T, is_state) for points in (noise, apart))
    assert far["silhouette"] == pytest.approx(
        silhouette_score(reference_evaluate.pca(apart)[0], is_state)
    )
    assert far["silhouette_full"] == pytest.approx(silhouette_score(apart, is_state))
    assert far["linear_accuracy"] == 100.0 and far["baseline"] == pytest.approx(100 * 67 / 94)
    assert far["silhouette"] is not None and far["silhouette"] > 0.9
    assert far["silhouette_full"] is not None and far["silhouette_full"] > 0.5
    assert near["silhouette"] is not None and abs(near["silhouette"]) < 0.15
    assert near["linear_accuracy"] is not None and near["baseline"] is not None
    assert near["linear_accuracy"] < near["baseline"] + 10


def test_separation_without_two_kinds() -> None:
    only_cities = separation(np.eye(6), np.zeros(6, dtype=bool))
    assert only_cities == {
        "silhouette": None,
        "silhouette_full": None,
        "linear_accuracy": None,
        "baseline": 100.0,
    }
    few_states = separation(np.diag(np.arange(1.0, 11.0)), np.arange(10) >= 8)
    assert few_states["silhouette"] is not None and few_states["linear_accuracy"] is None


# All together --------------------------------------------------------------------------------------------------------


def test_evaluate_model_is_json() -> None:
    vocab = full_vocab(num_others=50)
    u = torch.randn(len(vocab), 16, generator=torch.Generator().manual_seed(8))
    result = evaluate_model(Vectors(u), vocab, load_questions(vocab))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["chance"] == 100 / 955
    assert result["protocol"]["questions_seen"] == 19544
    assert list(result["analogy"]) == list(RULES)
    assert len(result["analogy"]["3cosadd"]["sections"]) == 14
    assert {"king", "france", "london", "texas", "good", "she"} <= result["neighbours"].keys()
    assert len(result["neighbours"]["king"]) == 8
