"""The low-rank engine as a model: inner products, state, accuracy, messages."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import sample_stream, toy_batch

from w2v_inf.config import (
    Architecture,
    Config,
    Embedding,
    Engine,
    MupLimit,
    Parametrization,
    Sample,
)
from w2v_inf.errors import UserError
from w2v_inf.evaluation.limit_distance import limit_distance
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.models.build import build_model
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel, init_finite, init_mup_limit
from w2v_inf.models.lowrank.basis import start_on
from w2v_inf.models.lowrank.model import LowRankLimit, init_lowrank, lowrank_bytes
from w2v_inf.models.lowrank.pair_table import empty_pair_table, lookup_block
from w2v_inf.models.parametrization import ABC
from w2v_inf.models.step import UpdateRule
from w2v_inf.runs.folder import run_folder, trained_options

pytestmark = pytest.mark.slow  # compiles the low-rank kernels

RULE = UpdateRule(weight_decay=1e-3)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sample corpus is prepared, once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with training_threads(1):
        yield


def trained(vocab_size: int, rank: int, dtype: type = np.float64) -> LowRankLimit:
    """A model after some steps on a random basis."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(vocab_size, rank)))[0].astype(dtype)
    pairs = empty_pair_table(vocab_size, 1 << 14, dtype)
    model = LowRankLimit(start_on(basis), pairs, UpdateRule(weight_decay=0.2))
    model.train_batches([toy_batch(seed, vocab_size, 9, 6, 4, 3) for seed in range(12)])
    return model


def explicit(model: LowRankLimit) -> tuple[np.ndarray, np.ndarray]:
    """u and w over the V initial directions, by their definition; [V, V] each."""
    u, w, _, b, s, _ = model.factors
    m, words = np.empty((len(b), len(b)), b.dtype), np.arange(len(b))
    lookup_block(model.pairs, words, words, m)
    outside = np.eye(len(b)) - b @ b.T
    return u @ b.T + s[:, None] * outside, w @ b.T + (outside @ m.T).T


@pytest.mark.parametrize("embedding", Embedding)
def test_inner_products_are_those_of_the_explicit_vectors(embedding: Embedding) -> None:
    model = trained(13, 4)
    u, w = explicit(model)
    vectors = {Embedding.input: u, Embedding.output: w, Embedding.sum: u + w}[embedding]
    rows, columns = torch.tensor([5, 0, 12]), torch.tensor([12, 5, 3, 1])
    np.testing.assert_allclose(
        model.gram(rows, columns, embedding),
        vectors[rows] @ vectors[columns].T,
        rtol=1e-10,
        atol=1e-12,
    )
    np.testing.assert_allclose(
        model.gram(rows, None, embedding), vectors[rows] @ vectors.T, rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(model.squared_norms(embedding), (vectors**2).sum(1), rtol=1e-10)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(13, 3)))
    np.testing.assert_allclose(
        model.gram_matmul(x, embedding), vectors @ vectors.T @ x.numpy(), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(
        model.vectors(rows, embedding), vectors[rows], rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(
        model.vectors(slice(2, 5), embedding), vectors[2:5], rtol=1e-10, atol=1e-12
    )


def test_float32_is_float64_up_to_rounding() -> None:
    double, single = trained(13, 4), trained(13, 4, dtype=np.float32)
    for exact, rounded in zip(explicit(double), explicit(single), strict=True):
        assert np.abs(rounded - exact).max() < 1e-5 * np.abs(exact).max()


def test_resumes_from_its_state_to_the_same_bits() -> None:
    model = trained(13, 4)
    other = init_lowrank(13, 2, 1 << 10, np.float64, model.rule)
    other.load({name: tensor.clone() for name, tensor in model.state().items()})
    batches = [toy_batch(seed, 13, 9, 6, 4, 3) for seed in range(50, 60)]
    assert model.train_batches(batches) == other.train_batches(batches)
    for name, tensor in model.state().items():
        assert torch.equal(tensor, other.state()[name]), name


@pytest.mark.parametrize("architecture", Architecture)
def test_error_falls_with_rank_and_beats_random_columns(
    architecture: Architecture, data_dir: Path
) -> None:
    """Cosine-Gram error against the dense limit on real text: ranks 16 and 64, and width 128."""
    stream, vocab_size = sample_stream(architecture, data_dir, epochs=2)
    ids, generator = torch.arange(vocab_size), torch.Generator().manual_seed(0)
    limit = init_mup_limit(vocab_size, 0.0, rule=RULE)
    finite = init_finite(vocab_size, 128, ABC[Parametrization.mup], 0.0, generator, rule=RULE)
    models = [init_lowrank(vocab_size, rank, 1 << 20, rule=RULE) for rank in (16, 64)]
    for model in (limit, finite, *models):
        model.prepare(stream, lambda: False)
        for epoch in range(2):
            model.train_batches(list(stream.epoch(epoch)))
    exact = cosine_table(limit, ids, ids).double()
    errors = [
        limit_distance(cosine_table(model, ids, ids).double(), exact)["gram_error"]
        for model in (finite, *models)
    ]
    assert errors[2] < 0.7 * errors[1] and errors[2] < 0.75 * errors[0], errors
    lower, higher = (model.diagnostics() for model in models)
    assert higher["rank"] == 64 and 0 < higher["energy_outside"] < lower["energy_outside"] < 1
    assert higher["pairs"] <= vocab_size**2
    assert higher["pair_table_bytes"] >= 8 * higher["pairs"]


def test_a_pilot_run_repeats_and_leaves_the_initialisation(data_dir: Path) -> None:
    stream, vocab_size = sample_stream(Architecture.cbow, data_dir)
    bases = []
    for _ in range(2):
        model = init_lowrank(vocab_size, 8, 1 << 20)
        model.prepare(stream)
        bases.append(model.factors.b)
        assert model.diagnostics()["pairs"] == 0
        assert all(table.flags.c_contiguous for table in model.factors)  # rows are copied whole
        np.testing.assert_allclose(
            model.gram(torch.arange(vocab_size)), np.eye(vocab_size), atol=1e-6
        )
    assert np.array_equal(*bases)
    model = init_lowrank(vocab_size, 8, 1 << 20)
    model.prepare(stream, lambda: True)
    # Interrupted: unchanged.
    assert np.array_equal(model.factors.b, np.eye(vocab_size, 8, dtype=np.float32))


def test_a_full_pair_table_says_what_would_suffice(data_dir: Path) -> None:
    stream, vocab_size = sample_stream(Architecture.cbow, data_dir)
    model = init_lowrank(vocab_size, 8, 1000)
    said = (
        "model.pair_table_gib=7.45e-06 cannot hold .* "
        "model.pair_table_gib=1.49e-05 holds twice as many"
    )
    with pytest.raises(UserError, match=said):
        model.train_batches(list(stream.epoch(0)))


def test_memory_to_train_and_to_load() -> None:
    """Loading needs no pilot run, and no second pair table for checkpoints."""
    gib = 1 << 30
    assert lowrank_bytes(300, 8, 100.0) == lowrank_bytes(300, 8, None)  # V x V pairs at most
    assert lowrank_bytes(50_000, 8, 9.0) - lowrank_bytes(50_000, 8, 4.0) == 2 * 5 * gib
    loaded = [lowrank_bytes(50_000, 8, size, loading=True) for size in (9.0, 4.0)]
    assert loaded[0] - loaded[1] == 5 * gib
    assert lowrank_bytes(300, 8, None) > 2 * gib > 1000 * lowrank_bytes(300, 8, None, loading=True)


def test_the_pair_table_size_does_not_make_another_run() -> None:
    assert trained_options(config_of()) == trained_options(config_of(pair_table_gib=1.0))
    assert run_folder(config_of()) == run_folder(config_of(pair_table_gib=1.0))


def config_of(**options) -> Config:
    return Config(corpus=Sample(), model=MupLimit(engine=Engine.lowrank, **options))


def test_build() -> None:
    assert isinstance(build_model(config_of(), 50), LowRankLimit)
    assert build_model(config_of(rank=7), 50).diagnostics()["rank"] == 7
    assert build_model(config_of(), 50).diagnostics()["rank"] == 50
    assert build_model(config_of(tolerance=0.1), 2000).diagnostics()["rank"] == 1024
    assert build_model(config_of(tolerance=0.1, rank=9), 2000).diagnostics()["rank"] == 9
    assert isinstance(build_model(replace(config_of(), model=MupLimit()), 50), LinearModel)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 51}, "model.rank must be at most V=50, the words of the vocabulary, got 51"),
        ({"rank": -1}, "model.rank must be at least 1, or null for the default, got -1"),
        (
            {"pair_table_gib": -0.5},
            "model.pair_table_gib must be above 0, or null for the default, got -0.5",
        ),
        (
            {"tolerance": 1.0},
            "model.tolerance must be above 0 and below 1, or null to take model.rank, got 1.0",
        ),
        ({"tolerance": float("nan")}, "model.tolerance must be a finite number, got nan"),
        (
            {"engine": Engine.dense, "tolerance": 0.1},
            r"model.tolerance must be absent with model.engine=dense \(it is for lowrank\), "
            "got 0.1",
        ),
        (
            {"output_init_scale": 1.0},
            "model.output_init_scale must be 0 with model.engine=lowrank, got 1.0",
        ),
        (
            {"engine": Engine.dense, "rank": 8},
            r"model.rank must be absent with model.engine=dense \(it is for lowrank\), got 8",
        ),
    ],
)
def test_mistakes_are_one_clear_line(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        build_model(
            Config(corpus=Sample(), model=MupLimit(**({"engine": Engine.lowrank} | options))), 50
        )


def test_a_tolerance_that_is_not_reached_is_reported_and_training_continues(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream, vocab_size = sample_stream(Architecture.cbow, data_dir)
    diagnostics = []
    for tolerance in (0.03, 1e-6):
        model = init_lowrank(vocab_size, 48, 1 << 20, tolerance=tolerance)
        model.prepare(stream)
        assert np.isfinite(model.train_batches(list(stream.epoch(0)))).all()
        diagnostics.append(model.diagnostics())
        again = init_lowrank(vocab_size, 48, 1 << 20, tolerance=tolerance)
        again.load(model.state())
        assert again.diagnostics() == diagnostics[-1]
    reached, missed = diagnostics
    assert reached["tolerance_reached"] and reached["rank"] < 48
    assert reached["residual_energy"] <= reached["tolerance"] == 0.03
    assert not missed["tolerance_reached"] and missed["rank"] == 48
    assert missed["residual_energy"] > missed["tolerance"]
    said = "model.tolerance=1e-06 is not reached: raise model.rank (now 48) or model.tolerance"
    assert caplog.text.count(said) == 1


def test_a_full_basis_has_no_residual_energy(data_dir: Path) -> None:
    stream, vocab_size = sample_stream(Architecture.cbow, data_dir)
    model = init_lowrank(vocab_size, vocab_size, 1 << 20)
    assert model.diagnostics()["residual_energy"] == 1
    model.prepare(stream)
    assert model.diagnostics()["residual_energy"] == 0 and "tolerance" not in model.diagnostics()
