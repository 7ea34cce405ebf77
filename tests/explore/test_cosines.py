"""Cosines of the page: exact neighbours, and a factor whose code and error are what it says."""

import zlib

import numpy as np
import pytest
import torch
from toy_embeddings import Identity, Vectors

from w2v_inf.config import Embedding
from w2v_inf.explore.cosines import (
    Factor,
    Neighbours,
    cosine_matrix,
    encode,
    factorise,
    measure,
    nearest,
    round_factor,
    shared_cosine,
)


def embeddings(num_words: int = 60, width: int = 12) -> np.ndarray:
    """Vectors whose components fall in size, as those of trained models do."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((num_words, width)) / np.arange(1, width + 1)


def exact_cosines(table: np.ndarray) -> np.ndarray:
    """The definition, a pair at a time."""
    lengths = [sum(x * x for x in row) ** 0.5 for row in table]
    return np.array(
        [
            [sum(a * b for a, b in zip(one, two, strict=True)) / (m * n)
             for two, n in zip(table, lengths, strict=True)]
            for one, m in zip(table, lengths, strict=True)
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def cosines() -> np.ndarray:
    return exact_cosines(embeddings()).astype(np.float32)


def decode(code: bytes, num_words: int) -> np.ndarray:
    """What the page's script does (codec.js), a number at a time."""
    content = zlib.decompress(code)
    half = len(content) // 2
    stored = [content[i] + 256 * content[half + i] for i in range(half)]
    levels = [-(x + 1) // 2 if x % 2 else x // 2 for x in stored]
    return np.array(levels).reshape(-1, num_words).T


def test_cosines_are_those_of_the_chosen_words(cosines: np.ndarray) -> None:
    ids = np.array([3, 0, 59, 17])
    model = Vectors(torch.from_numpy(embeddings()))
    found = cosine_matrix(model, ids, Embedding.input)
    np.testing.assert_allclose(found, cosines[np.ix_(ids, ids)], atol=1e-6)


def test_only_equal_cosines_are_shared(cosines: np.ndarray) -> None:
    assert shared_cosine(cosines) is None
    assert shared_cosine(cosine_matrix(Identity(9), np.arange(7), Embedding.input)) == 0.0


def test_neighbours_are_the_largest_cosines(cosines: np.ndarray) -> None:
    found = nearest(cosines)
    for word, (ids, rounded) in enumerate(zip(found.ids, found.cosines, strict=True)):
        others = sorted(set(range(60)) - {word}, key=lambda other: -cosines[word, other])
        assert ids.tolist() == others[:10]
        np.testing.assert_allclose(rounded / 10_000, cosines[word, ids], atol=6e-5)


def test_few_words_have_few_neighbours(cosines: np.ndarray) -> None:
    assert nearest(cosines[:4, :4]).ids.shape == (4, 3)


def test_a_factor_of_full_rank_gives_the_cosines(cosines: np.ndarray) -> None:
    factor = factorise(cosines)
    np.testing.assert_allclose(factor @ factor.T, cosines, atol=1e-5)
    assert factor.shape == (60, 12)  # the rank of the embeddings
    assert (np.diff(np.square(factor).sum(axis=0)) <= 1e-5).all()


def test_a_factor_of_lower_rank_is_the_best_one(cosines: np.ndarray) -> None:
    factor = factorise(cosines, max_rank=5)
    values = np.linalg.eigvalsh(cosines.astype(np.float64))
    best = np.square(values[:-5]).sum() ** 0.5
    assert np.linalg.norm(factor @ factor.T - cosines) == pytest.approx(best, rel=0.02)


@pytest.mark.parametrize("levels", [[[0, -1], [1, 2], [-2, 300]], [[16_000], [-16_000], [255]]])
def test_the_code_can_be_read_again(levels: list[list[int]]) -> None:
    table = np.array(levels, np.int16)
    assert np.array_equal(decode(encode(table), len(table)), table)


@pytest.mark.parametrize("max_bytes", [150, 400, 900])
def test_rounding_keeps_to_its_bytes_and_gets_better_with_them(
    cosines: np.ndarray, max_bytes: int
) -> None:
    factor, neighbours = factorise(cosines), nearest(cosines)
    rounded = round_factor(factor, neighbours, max_bytes)
    assert len(encode(rounded.levels)) <= max_bytes
    measure(rounded, cosines, np.zeros((0, 4), np.int64))
    more = round_factor(factor, neighbours, 2 * max_bytes)
    measure(more, cosines, np.zeros((0, 4), np.int64))
    assert more.rms_error < rounded.rms_error


def test_the_measured_error_and_agreement_are_true(cosines: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    questions = np.array([rng.choice(60, 4, replace=False) for _ in range(40)])
    table = factorise(cosines, max_rank=4)
    factor = Factor(np.full(table.shape[1], 1e-3, np.float32), np.round(table / 1e-3).astype("i2"))
    measure(factor, cosines, questions)
    errors = factor.table @ factor.table.T - cosines
    assert factor.rms_error == pytest.approx(np.square(errors).mean() ** 0.5, rel=1e-4)
    agreed = 0
    for a, b, c, _ in questions:
        answers = []
        for gram in (cosines, factor.table @ factor.table.T):
            scores = {d: gram[b, d] - gram[a, d] + gram[c, d] for d in range(60)}
            answers.append(max((d for d in scores if d not in (a, b, c)), key=scores.__getitem__))
        agreed += answers[0] == answers[1]
    assert (factor.num_agreed, factor.num_questions) == (agreed, 40)
    assert 0 < agreed < 40


def test_the_neighbours_decide_between_units(cosines: np.ndarray) -> None:
    """Rounding is chosen for near words: others may be worse than with the same bytes elsewhere."""
    factor, full = factorise(cosines), nearest(cosines)
    one = Neighbours(full.ids[:, :1], full.cosines[:, :1])
    rounded = round_factor(factor, one, 300)
    found = np.einsum("nr,nr->n", rounded.table, rounded.table[one.ids[:, 0]])
    error = np.square(found - one.cosines[:, 0] / 10_000).mean() ** 0.5
    measure(rounded, cosines, np.zeros((0, 4), np.int64))
    assert error < 3 * rounded.rms_error
