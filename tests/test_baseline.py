"""Baselines from counts beside the reference, and the stage that writes and evaluates them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from composed import config_of
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_inf import baseline as stage
from w2v_inf.baseline import (
    add_transpose,
    baseline,
    check_sizes,
    count_forward,
    leading_factor,
    make_target,
)
from w2v_inf.config import Baseline
from w2v_inf.errors import UserError
from w2v_inf.files import read_json
from w2v_inf.reference import baseline as reference
from w2v_inf.word2vec_format import read_vectors

V = 5


def counts_of(documents: list[list[int]], p_keep: list[float], window: int) -> np.ndarray:
    tokens = np.array([word for document in documents for word in document], np.int32)
    starts = np.cumsum([0, *map(len, documents)])
    counts = np.zeros((len(p_keep), len(p_keep)))
    count_forward(tokens, starts, np.array(p_keep), window, counts)
    add_transpose(counts)
    return counts


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, V - 1), max_size=7), min_size=1, max_size=3),
    st.lists(st.sampled_from([0.2, 0.5, 0.9, 1.0]), min_size=V, max_size=V),
    st.integers(1, 4),
)
def test_counts_equal_the_reference(
    documents: list[list[int]], p_keep: list[float], window: int
) -> None:
    """Repeated words, empty documents, documents shorter than a window."""
    expected = reference.expected_counts(documents, p_keep, window, V)
    np.testing.assert_allclose(counts_of(documents, p_keep, window), expected, atol=1e-12)


def test_words_out_of_vocabulary_are_no_gap() -> None:
    """As in the stream: they are dropped before windows are placed."""
    p_keep = [0.5, 0.7, 1.0]
    dropped = counts_of([[0, 7, 9, 1, 7, 2]], p_keep, 2)
    assert np.array_equal(dropped, counts_of([[0, 1, 2]], p_keep, 2))


def test_far_words_are_cut_where_nothing_is_left() -> None:
    """With rare words kept, a window reaches across very many dropped ones."""
    p_keep = [0.05, 1.0]
    text = [1, *[0] * 600, 1]
    counts = counts_of([text], p_keep, 4)
    # Only k < 4 of the 600 words between are kept, which is all but impossible.
    assert counts[1, 1] == 0.0
    near = counts_of([[1, *[0] * 40, 1]], p_keep, 4)[1, 1]
    p_between = [math.comb(40, k) * 0.05**k * 0.95 ** (40 - k) for k in range(4)]
    exact = 2 * sum(p * (4 - k) / 4 for k, p in enumerate(p_between))
    assert near == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("method", Baseline)
def test_targets_equal_the_reference(method: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "BLOCK_ROWS", 3)
    counts = np.random.default_rng(0).integers(0, 3, (8, 8)).astype(float)
    counts += counts.T
    counts[4], counts[:, 4] = 0, 0  # a word without neighbours
    expected = reference.target(counts, method.value)
    np.testing.assert_allclose(make_target(counts, method), expected, rtol=1e-6, atol=1e-7)
    assert (expected[4] == 0).all() and (expected > 0).any()
    assert (expected < 0).any() == (method is Baseline.mstar)


def test_the_target_of_mstar_is_a_saturated_pmi() -> None:
    counts = np.random.default_rng(1).integers(1, 9, (6, 6)).astype(float)
    counts += counts.T
    p = counts / counts.sum()
    pmi = np.log(p / np.outer(p.sum(0), p.sum(1)))
    np.testing.assert_allclose(make_target(counts, Baseline.mstar), 2 * np.tanh(pmi / 2), atol=1e-6)


def test_the_factor_is_the_best_of_positive_rank() -> None:
    rng = np.random.default_rng(2)
    orthogonal = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    eigenvalues = np.concatenate([np.linspace(9, 1, 10), -np.linspace(1, 12, 30)])
    target = ((orthogonal * eigenvalues) @ orthogonal.T).astype(np.float32)
    target = (target + target.T) / 2
    vectors, values = leading_factor(target, 6)
    np.testing.assert_allclose(values, eigenvalues[:6], rtol=1e-4)
    expected = (orthogonal[:, :6] * eigenvalues[:6]) @ orthogonal[:, :6].T
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-3)
    largest = np.abs(vectors).argmax(0)
    assert (vectors[largest, range(6)] > 0).all()
    assert np.array_equal(vectors, leading_factor(target, 6)[0])  # the same bits
    with pytest.raises(UserError, match="baseline.dimension must be at most 10, the number of"):
        leading_factor(target, 12)


def test_a_corpus_without_pairs_is_one_line(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("a\nb\na\nb\nc\n")
    options = ["corpus=file", f"corpus.path={text}", "corpus.min_count=1", "baseline.dimension=1"]
    with pytest.raises(UserError, match="no two words of the vocabulary on one line"):
        baseline(config_of(*options, f"data_dir={tmp_path}/data", f"runs_dir={tmp_path}"))


def test_sizes_that_do_not_fit_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="baseline.dimension must be below V=200, .* got 200"):
        check_sizes(Baseline.ppmi, 200, 200)
    monkeypatch.setattr(stage, "free_bytes", lambda device: 2**30)
    with pytest.raises(UserError) as caught:
        check_sizes(Baseline.mstar, 200, 70_000)
    message = str(caught.value)
    assert message.startswith("baseline.method=mstar needs 55.3 GiB for V=70,000, 1.0 are free: ")
    fitting = int(message.split("max_vocab=")[1].split()[0])
    check_sizes(Baseline.mstar, 200, fitting)


@pytest.mark.parametrize("method", Baseline)
def test_the_stage_writes_vectors_and_evaluates_them(
    method: Baseline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "t.txt"
    rng = np.random.default_rng(0)
    # Two topics: words of one stand together.
    lines = [rng.choice([f"{topic}{i}" for i in range(8)], 20) for topic in "ab" * 40]
    text.write_text("\n".join(map(" ".join, lines)))
    options = ["corpus=file", f"corpus.path={text}", "stream.subsample_threshold=0"]
    options += [f"baseline.method={method.value}", "baseline.dimension=2"]
    config = config_of(*options, f"runs_dir={tmp_path}/runs", f"data_dir={tmp_path}/data")
    path = baseline(config)
    assert path.parent.parent == tmp_path / "runs" and path.name == f"{method.value}-2.txt"
    vocab, vectors = read_vectors(path)
    is_a = np.array([word.startswith("a") for word in vocab.words])
    cosines = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    assert cosines[is_a][:, is_a].min() > cosines[is_a][:, ~is_a].max()
    origin = json.loads(path.with_name(path.name + ".json").read_text())
    assert origin["window"] == 8 and len(origin["eigenvalues"]) == 2
    assert read_json(path.with_name(path.name + ".evaluation.json"))["protocol"]["vocabulary"] == 16
    assert "all pairs of pairs" in capsys.readouterr().out
