"""Word similarity and neighbours beside the reference and scipy, and the evaluation in one call."""

import json

import numpy as np
import pytest
import scipy.stats
import torch
from toy_embeddings import Identity, Vectors, Vocab, full_vocab

from w2v_inf.evaluation.analogy import RULES, load_questions
from w2v_inf.evaluation.datasets import find_dataset
from w2v_inf.evaluation.similarity import (
    SIMILARITY_SETS,
    evaluate_model,
    nearest_neighbours,
    read_similarities,
    word_similarity,
)
from w2v_inf.reference import evaluation as reference


def similarity_vocab() -> Vocab:
    pairs = [
        pair for file in SIMILARITY_SETS.values() for pair in read_similarities(find_dataset(file))
    ]
    return Vocab(
        sorted({word for pair in pairs for word in pair[:2]})[::2] + ["tiger", "cat", "paper"]
    )


def test_word_similarity_equals_the_reference_and_scipy() -> None:
    vocab = similarity_vocab()
    u = torch.randn(len(vocab), 6, generator=torch.Generator().manual_seed(3)).double()
    u[1] = 0
    result = word_similarity(Vectors(u), vocab)
    assert {name: entry["total"] for name, entry in result.items()} == {
        "wordsim353": 353,
        "simlex999": 999,
    }
    for name, file in SIMILARITY_SETS.items():
        pairs = read_similarities(find_dataset(file))
        known = [
            (vocab.id_of[x], vocab.id_of[y], score)
            for x, y, score in pairs
            if x in vocab.id_of and y in vocab.id_of
        ]
        cosines = [reference.cosine(u.numpy()[x], u.numpy()[y]) for x, y, _ in known]
        scores = [score for _, _, score in known]
        assert result[name]["pairs"] == len(known) > 20
        assert result[name]["spearman"] == pytest.approx(
            reference.spearman(cosines, scores), abs=1e-10
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
def test_neighbours_equal_the_reference(k: int) -> None:
    # Many exact ties, and rows of zeros.
    u = torch.from_numpy(np.random.default_rng(4).integers(-1, 2, size=(15, 3))).double()
    vocab = Vocab([f"w{i}" for i in range(15)])
    result = nearest_neighbours(Vectors(u), vocab, ["w3", "unknown", "w0", "w3"], k)
    assert list(result) == ["w3", "w0"]
    for word, neighbours in result.items():
        expected = reference.nearest_neighbours(u.numpy(), vocab.id_of[word], k)
        assert neighbours == [[vocab.words[i], value] for i, value in expected]


def test_case_is_ignored_and_the_commonest_form_counts() -> None:
    vocab = similarity_vocab()
    u = torch.randn(len(vocab), 5, generator=torch.Generator().manual_seed(3))
    cased = Vocab([*(word.capitalize() for word in vocab.words), *vocab.words[:20]])
    more = torch.cat([u, torch.zeros(20, 5)])
    assert word_similarity(Vectors(more), cased) == word_similarity(Vectors(u), vocab)
    here = Vocab(["Paris", "France", "paris", "rome"])
    found = nearest_neighbours(Vectors(torch.eye(4)), here, ["paris", "france", "ROME"], 1)
    assert found == {
        "paris": [["Paris", 0.0]],
        "france": [["Paris", 0.0]],
        "ROME": [["Paris", 0.0]],
    }


def test_neighbours_of_unknown_words() -> None:
    assert nearest_neighbours(Vectors(torch.eye(2)), Vocab(["a", "b"]), ["c"]) == {}


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
