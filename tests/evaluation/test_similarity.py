"""Word similarity and neighbours beside the reference and scipy, and the evaluation in one call."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from toy_embeddings import Identity, Vectors, Vocab, full_vocab

from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import RULES
from w2v_inf.evaluation.datasets import find_dataset
from w2v_inf.evaluation.similarity import (
    SIMILARITY_SETS,
    evaluate_model,
    load_sets,
    nearest_neighbours,
    read_similarities,
    word_similarity,
)
from w2v_inf.reference import evaluation as reference

SETS = {name: read_similarities(find_dataset(file)) for name, file in SIMILARITY_SETS.items()}


def similarity_vocab() -> Vocab:
    pairs = [pair for pairs in SETS.values() for pair in pairs]
    return Vocab(
        sorted({word for pair in pairs for word in pair[:2]})[::2] + ["tiger", "cat", "paper"]
    )


def test_word_similarity_equals_the_reference_and_scipy() -> None:
    vocab = similarity_vocab()
    u = torch.randn(len(vocab), 6, generator=torch.Generator().manual_seed(3)).double()
    u[1] = 0
    result = word_similarity(Vectors(u), vocab, SETS)
    assert {name: entry["total"] for name, entry in result.items()} == {
        "wordsim353": 353,
        "simlex999": 999,
    }
    for name, pairs in SETS.items():
        words = {word for pair in pairs for word in pair[:2]}
        assert result[name]["unknown_words"] == len(words - vocab.id_of.keys()) > 20
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
    constant = word_similarity(Identity(len(vocab)), vocab, SETS)
    assert constant["wordsim353"]["spearman"] is None and constant["wordsim353"]["pairs"] > 3
    few = word_similarity(Vectors(torch.eye(3)), Vocab(["tiger", "cat", "xyzzy"]), SETS)
    counts = {"pairs": 2, "total": 353, "unknown_words": 435}
    assert few["wordsim353"] == {"spearman": None, **counts}


@pytest.mark.parametrize(
    "text",
    [
        "cat dog 9.5\nsun moon 4\n",  # MEN
        "cat\tdog\t9.5\t10\t9\r\nsun\tmoon\t4\t4\t4\r\n",  # RareWords
        'Word 1,Word 2,Human (mean)\ncat,dog,9.5\n"Sun",moon,4\n',  # WordSim-353
        "\ufeff# comment\nword1 word2 SimLex999 more\n\ncat dog 9.5 x\nsun moon 4 x",
    ],
)
def test_similarities_are_read_as_they_are_distributed(text: str, tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(text.encode())
    assert read_similarities(path) == [("cat", "dog", 9.5), ("sun", "moon", 4.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat dog\n", "line 1: expected two words and a finite score"),
        ("cat dog 1.2.3\nsun moon 4\n", "line 1: expected"),
        ("cat dog nan\nsun moon 4\n", "line 1: expected"),
        ("# x\nold new A 1.58\nhot cold A 4\n", "line 3: expected"),  # SimLex-999 with POS
        ("a b score\n\ncat\tdog\n", "line 3: expected"),
        ("cat dog 1\n dog 2\n", "line 2: expected"),
        ("a b score\n", "line 1: expected"),
        ("# only this\n", "holds no line of two words and a score"),
        ("\n \n", "holds no line: give a text file"),
    ],
)
def test_a_bad_similarity_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "set.txt"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_similarities(path)
    said = str(caught.value)
    assert str(path) in said and message in said and "\n" not in said


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
    assert word_similarity(Vectors(more), cased, SETS) == word_similarity(Vectors(u), vocab, SETS)
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
    result = evaluate_model(Vectors(u), vocab, load_sets(vocab))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["chance"] == 100 / 955
    assert result["protocol"]["questions_seen"] == 19544
    assert list(result["analogy"]) == list(RULES)
    assert len(result["analogy"]["3cosadd"]["sections"]) == 14
    assert result["question_files"] == result["similarity_files"] == {}
    assert (result["pairs_of_pairs"]["searched"], list(result["similarity"])) == (955, list(SETS))
    assert {"king", "france", "london", "texas", "good", "she"} <= result["neighbours"].keys()
    assert len(result["neighbours"]["king"]) == 8
