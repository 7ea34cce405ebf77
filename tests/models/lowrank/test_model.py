"""The low-rank engine against its twin, the dense limit, and explicit vectors."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import SHAPES, arrays, sample_stream, toy_batch

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
from w2v_inf.models import memory_check
from w2v_inf.models.build import build_model
from w2v_inf.models.cpu import step as cpu_step
from w2v_inf.models.cpu.threads import use_threads
from w2v_inf.models.linear import LinearModel, init_finite, init_mup_limit
from w2v_inf.models.lowrank.basis import factors_on
from w2v_inf.models.lowrank.model import LowRankLimit, init_lowrank, lowrank_bytes
from w2v_inf.models.lowrank.pair_table import PairTable, make_memory, recall_block
from w2v_inf.models.lowrank.step import lowrank_steps
from w2v_inf.models.parametrization import ABC
from w2v_inf.models.step import exact_logit, tp4_logit
from w2v_inf.reference import updates as reference
from w2v_inf.runs.folder import run_folder, trained_options


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    use_threads(1)
    yield
    use_threads(1)


def orthonormal(vocab_size: int, rank: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(vocab_size, rank)))[0]


def remembered(memory: PairTable) -> np.ndarray:
    """M [V_in, V_out]."""
    out = np.empty((len(memory.scale),) * 2, memory.values.dtype)
    recall_block(memory, np.arange(len(out)), np.arange(len(out), dtype=np.int32), out)
    return out.T


def trained(vocab_size: int, rank: int, dtype: type = np.float64) -> LowRankLimit:
    """A model some steps from its start on a random basis."""
    basis = orthonormal(vocab_size, rank).astype(dtype)
    model = LowRankLimit(
        factors_on(basis), make_memory(vocab_size, 1 << 14, dtype), weight_decay=0.2
    )
    model.train_batches([toy_batch(seed, vocab_size, 9, 6, 4, 3) for seed in range(12)])
    return model


def explicit(model: LowRankLimit) -> tuple[np.ndarray, np.ndarray]:
    """u and w over the V initial rows, by their definition; [V, V] each."""
    u, w, _, b, s, _ = model.factors
    outside = np.eye(len(b)) - b @ b.T
    return u @ b.T + s[:, None] * outside, w @ b.T + (outside @ remembered(model.memory)).T


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rank", "tile"), [(1, 1), (2, 64), (5, 3)])
@pytest.mark.parametrize(("tp4", "whole"), [(False, False), (False, True), (True, False)])
def test_step_equals_twin(
    shape: tuple[int, ...], rank: int, tile: int, tp4: bool, whole: bool
) -> None:
    vocab_size, rank = shape[0], min(rank, shape[0])
    factors, memory = (
        factors_on(orthonormal(vocab_size, rank)),
        make_memory(vocab_size, 1 << 12, np.float64),
    )
    u, w, _, b, s, _ = (table.copy() for table in factors)
    m = np.zeros((vocab_size, vocab_size))
    for seed in range(4):
        batch = toy_batch(seed, *shape)
        loss = lowrank_steps(factors, memory, [batch], 0.2, tp4, whole, tile=tile)[0]
        u, w, s, m, slow_loss = reference.lowrank_update(
            u, w, b, s, m, **arrays(batch), weight_decay=0.2, tp4=tp4, whole=whole
        )
        assert loss == pytest.approx(slow_loss, rel=1e-12)
        projection = b.T @ m  # [r, V]
        pairs = (
            (factors.u, u),
            (factors.w, w),
            (factors.n, projection.T),
            (factors.s, s),
            (remembered(memory), m),
        )
        for fast, slow in pairs:
            np.testing.assert_allclose(fast, slow, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_full_basis_is_the_dense_limit(shape: tuple[int, ...]) -> None:
    """With r = V nothing is outside the basis, whatever the basis: the exact limit in other coordinates."""
    model = LowRankLimit(
        factors_on(orthonormal(shape[0], shape[0])),
        make_memory(shape[0], 1 << 12, np.float64),
        weight_decay=0.2,
    )
    dense = init_mup_limit(shape[0], 0.0, torch.float64)
    dense.weight_decay = 0.2
    batches = [toy_batch(seed, *shape) for seed in range(20)]
    np.testing.assert_allclose(
        model.train_batches(batches), dense.train_batches(batches), rtol=1e-10
    )
    u, w = explicit(model)
    np.testing.assert_allclose(u, dense.u, atol=1e-10)
    np.testing.assert_allclose(w, dense.w, atol=1e-10)


@pytest.mark.parametrize("logit", [exact_logit, tp4_logit])
def test_threads_share_columns_and_words(logit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_step, "MIN_COLUMNS", 2)
    batches = [toy_batch(seed, 13, 9, 6, 4, 3) for seed in range(30)]
    models = []
    for num_threads in (1, 3, 3):
        use_threads(num_threads)
        memory = make_memory(13, 1 << 12, np.float64, num_threads)
        models.append(LowRankLimit(factors_on(orthonormal(13, 7)), memory, 0.2, logit))
        models[-1].train_batches(batches)
    one, many, again = (explicit(model) for model in models)
    for single, several, same in zip(one, many, again, strict=True):
        np.testing.assert_allclose(several, single, rtol=1e-10, atol=1e-12)
        assert np.array_equal(several, same)


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


def test_goes_on_from_its_state_to_the_same_bits() -> None:
    model = trained(13, 4)
    other = init_lowrank(13, 2, 1 << 10, np.float64)
    other.weight_decay = 0.2
    other.load({name: tensor.clone() for name, tensor in model.state().items()})
    batches = [toy_batch(seed, 13, 9, 6, 4, 3) for seed in range(50, 60)]
    assert model.train_batches(batches) == other.train_batches(batches)
    for name, tensor in model.state().items():
        assert torch.equal(tensor, other.state()[name]), name


@pytest.mark.parametrize("architecture", Architecture)
def test_error_falls_with_rank_and_beats_random_columns(
    architecture: Architecture, tmp_path: Path
) -> None:
    """On real text, against the dense limit on the same stream: cosine-Gram error at rank 16 and 64, and of a net with 128 columns."""
    stream, vocab_size = sample_stream(architecture, tmp_path, epochs=2)
    ids = torch.arange(vocab_size)
    truth = init_mup_limit(vocab_size, 0.0)
    random = init_finite(
        vocab_size, 128, ABC[Parametrization.mup], 0.0, torch.Generator().manual_seed(0)
    )
    models = [init_lowrank(vocab_size, rank, 1 << 20) for rank in (16, 64)]
    for model in (truth, random, *models):
        model.weight_decay = 1e-3
        model.prepare(stream, lambda: False)
        for epoch in range(2):
            model.train_batches(list(stream.epoch(epoch)))
    exact = cosine_table(truth, ids, ids).double()
    errors = [
        limit_distance(cosine_table(model, ids, ids).double(), exact)["gram_error"]
        for model in (random, *models)
    ]
    assert errors[2] < 0.7 * errors[1] and errors[2] < 0.75 * errors[0], errors
    report = models[1].diagnostics()
    assert (
        report["rank"] == 64
        and 0 < report["energy_outside"] < models[0].diagnostics()["energy_outside"] < 1
    )
    assert report["pairs"] <= vocab_size**2 and report["memory_bytes"] >= 8 * report["pairs"]


def test_a_rehearsal_repeats_and_leaves_the_start(tmp_path: Path) -> None:
    stream, vocab_size = sample_stream(Architecture.cbow, tmp_path)
    bases = []
    for _ in range(2):
        model = init_lowrank(vocab_size, 8, 1 << 20)
        model.prepare(stream)
        bases.append(model.factors.b)
        assert model.diagnostics()["pairs"] == 0
        assert all(table.flags.c_contiguous for table in model.factors)  # rows are moved whole
        np.testing.assert_allclose(
            model.gram(torch.arange(vocab_size)), np.eye(vocab_size), atol=1e-6
        )
    assert np.array_equal(*bases)
    model = init_lowrank(vocab_size, 8, 1 << 20)
    model.prepare(stream, lambda: True)
    assert np.array_equal(
        model.factors.b, np.eye(vocab_size, 8, dtype=np.float32)
    )  # interrupted: as it was


def test_a_full_memory_says_what_would_do(tmp_path: Path) -> None:
    stream, vocab_size = sample_stream(Architecture.cbow, tmp_path)
    model = init_lowrank(vocab_size, 8, 1000)
    with pytest.raises(
        UserError,
        match=r"model.pair_table_gib=7.45e-06 cannot hold .* model.pair_table_gib=1.49e-05 holds twice as many",
    ):
        model.train_batches(list(stream.epoch(0)))


def test_a_budget_for_pairs_counts_up_to_what_all_pairs_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gib = 1 << 30
    assert lowrank_bytes(300, 8, 100.0) == lowrank_bytes(300, 8, 0.0)
    assert lowrank_bytes(50_000, 8, 9.0) - lowrank_bytes(50_000, 8, 4.0) == 5 * gib
    monkeypatch.setattr(memory_check, "free_bytes", lambda device: 4 * gib)
    with pytest.raises(
        UserError,
        match=r"model.pair_table_gib=9 and the tables of rank 256 take .* cpu has 4.0 GiB free: lower model.pair_table_gib",
    ):
        memory_check.check_memory(
            MupLimit(engine=Engine.lowrank, pair_table_gib=9.0), 50_000, torch.device("cpu")
        )


def test_a_rank_that_does_not_fit_is_told_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 1 << 30
    monkeypatch.setattr(memory_check, "free_bytes", lambda device: 5 * gib)
    with pytest.raises(
        UserError, match=r"model=mup_limit needs .*: model.rank=(\d+) fits"
    ) as refused:
        memory_check.check_memory(
            MupLimit(engine=Engine.lowrank, rank=5000), 50_000, torch.device("cpu")
        )
    rank = int(str(refused.value).split("model.rank=")[1].split()[0])
    memory_check.check_memory(
        MupLimit(engine=Engine.lowrank, rank=rank), 50_000, torch.device("cpu")
    )
    with pytest.raises(UserError):
        memory_check.check_memory(
            MupLimit(engine=Engine.lowrank, rank=rank + 2), 50_000, torch.device("cpu")
        )


def test_a_budget_for_pairs_does_not_make_another_run() -> None:
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
            r"model.tolerance must be absent with model.engine=dense \(it is for lowrank\), got 0.1",
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


def test_a_tolerance_that_is_not_reached_is_said_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream, vocab_size = sample_stream(Architecture.cbow, tmp_path)
    reports = []
    for tolerance in (0.03, 1e-6):
        model = init_lowrank(vocab_size, 48, 1 << 20)
        model.tolerance = tolerance
        model.prepare(stream)
        assert np.isfinite(model.train_batches(list(stream.epoch(0)))).all()
        reports.append(model.diagnostics())
        again = init_lowrank(vocab_size, 48, 1 << 20)
        again.tolerance = tolerance
        again.load(model.state())
        assert again.diagnostics() == reports[-1]
    reached, missed = reports
    assert (
        reached["tolerance_reached"]
        and reached["rank"] < 48
        and reached["basis_missed"] <= reached["tolerance"] == 0.03
    )
    assert (
        not missed["tolerance_reached"]
        and missed["rank"] == 48
        and missed["basis_missed"] > missed["tolerance"]
    )
    assert (
        caplog.text.count(
            "model.tolerance=1e-06 is not reached: raise model.rank (now 48) or model.tolerance"
        )
        == 1
    )


def test_all_directions_miss_nothing(tmp_path: Path) -> None:
    stream, vocab_size = sample_stream(Architecture.cbow, tmp_path)
    model = init_lowrank(vocab_size, vocab_size, 1 << 20)
    assert model.diagnostics()["basis_missed"] == 1
    model.prepare(stream)
    assert model.diagnostics()["basis_missed"] == 0 and "tolerance" not in model.diagnostics()
