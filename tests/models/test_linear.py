"""Finite networks and the exact limit: the reference, the limit, the authors' own program."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import (
    GOLDEN,
    PLAIN,
    RULES,
    SHAPES,
    arrays,
    golden_positions,
    options,
    toy_batch,
)

from w2v_inf.config import ContextGradient, Embedding, Parametrization, Sigmoid
from w2v_inf.models.cpu.step import sgd_steps
from w2v_inf.models.gpu import step as gpu_step
from w2v_inf.models.linear import LinearModel, init_finite, init_mup_limit
from w2v_inf.models.parametrization import ABC
from w2v_inf.models.step import UpdateRule
from w2v_inf.reference import updates as reference
from w2v_inf.stream import Batch


def random_model(
    seed: int, vocab_size: int, width: int, dtype: torch.dtype = torch.float64
) -> LinearModel:
    generator = torch.Generator().manual_seed(seed)
    u, w = (
        torch.randn(vocab_size, width, generator=generator, dtype=torch.float64).mul_(0.6)
        for _ in "uw"
    )
    return LinearModel(u.to(dtype), w.to(dtype), PLAIN)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", [RULES[0], RULES[2]], ids=["exact", "tp4"])
def test_step_equals_the_reference(shape: tuple[int, ...], rule: UpdateRule) -> None:
    model = random_model(0, shape[0], 5)
    model.rule = rule
    u, w = model.u.numpy().copy(), model.w.numpy().copy()
    for seed in range(3):
        batch = toy_batch(seed, *shape)
        u, w, loss = reference.linear_update(u, w, **arrays(batch), **options(rule))
        assert model.update(batch) == pytest.approx(loss, rel=1e-12)
        np.testing.assert_allclose(model.u, u, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(model.w, w, rtol=1e-10, atol=1e-12)


def test_float32_error_is_rounding() -> None:
    """The float32 step errs from the float64 reference by a few roundings of its entries."""
    batch = toy_batch(1, 13, 9, 6, 4, 3)
    single = random_model(0, 13, 33, torch.float32)
    u, w = single.u.double().numpy(), single.w.double().numpy()
    u, w, _ = reference.linear_update(u, w, **arrays(batch), **options(PLAIN))
    single.update(batch)
    for fast, slow in ((single.u, u), (single.w, w)):
        error = np.abs(fast.numpy() - slow).max()
        assert error <= 16 * np.finfo(np.float32).eps * np.abs(slow).max()


def golden_model(file: str, sigmoid: Sigmoid) -> LinearModel:
    """The network that the authors' program trained, before its first position."""
    z = np.load(GOLDEN / file)
    u, w = (torch.from_numpy(z[name].astype(np.float64)) for name in ("u_initial", "w_initial"))
    return LinearModel(u, w, UpdateRule(float(z["weight_decay"]), sigmoid=sigmoid))


def golden_batch(position: dict) -> Batch:
    context, negatives = (position[k].astype(np.int32)[None] for k in ("context", "negatives"))
    target = np.array([position["target"]], np.int32)
    return Batch(context, target, negatives, np.zeros(1, np.int32), 1.0, position["lr"], 0)


@pytest.mark.parametrize("file", ["finite.npz", "limit.npz"])
def test_repeats_the_authors_program(file: str) -> None:
    """Each position takes their step, but for ids that repeat in it (first order in lr)."""
    model, checked = golden_model(file, Sigmoid.tp4), 0
    decay = {"weight_decay": model.rule.weight_decay, "tp4": True}
    for position, _ in golden_positions(file):
        ids = (
            [i for i in position["context"] if i >= 0],
            [i for i in position["negatives"] if i != position["target"]],
        )
        if all(len(set(some)) == len(some) for some in ids):
            tables = model.u.numpy(), model.w.numpy()
            u, w, loss = reference.token_by_token(*tables, **position, **decay)
            assert model.update(golden_batch(position)) == pytest.approx(loss, rel=1e-9)
            np.testing.assert_allclose(model.u, u, rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(model.w, w, rtol=1e-10, atol=1e-13)
            checked += 1
        else:
            model.update(golden_batch(position))
    assert checked > 1000
    z = np.load(GOLDEN / file)
    np.testing.assert_allclose(model.u, z["u_final"], atol=3e-3)
    np.testing.assert_allclose(model.w, z["w_final"], atol=3e-3)


def test_the_exact_sigmoid_does_not_repeat_the_authors_program() -> None:
    model = golden_model("finite.npz", Sigmoid.exact)
    assert model.rule.weight_decay == pytest.approx(0.02)
    model.train_batches([golden_batch(position) for position, _ in golden_positions("finite.npz")])
    error = np.abs(model.u.numpy() - np.load(GOLDEN / "finite.npz")["u_final"]).max()
    assert 0.02 < error < 0.5


def trained_logits(model: LinearModel, shape: tuple[int, ...] = (7, 5, 4, 3, 2)) -> torch.Tensor:
    model.train_batches([toy_batch(seed, *shape) for seed in range(6)])
    return model.u @ model.w.T


@pytest.mark.parametrize(("scale", "whole"), [(0.0, False), (0.8, False), (0.0, True)])
@pytest.mark.parametrize("shape", [(7, 5, 4, 3, 2), (11, 17, 1, 6, 5)])
def test_mup_networks_approach_the_limit(scale: float, whole: bool, shape: tuple[int, ...]) -> None:
    """The distance of the logits falls with the root of the width, for zero and random w."""
    gradient = ContextGradient.whole if whole else ContextGradient.divided
    rule = UpdateRule(0.05, context_gradient=gradient)
    limit = trained_logits(init_mup_limit(shape[0], scale, torch.float64, rule=rule), shape)

    def distance(width: int, seed: int) -> float:
        generator, exponents = torch.Generator().manual_seed(seed), ABC[Parametrization.mup]
        network = init_finite(
            shape[0], width, exponents, scale, generator, torch.float64, rule=rule
        )
        return float((trained_logits(network, shape) - limit).norm())

    widths = [64, 512, 4096]
    distances = [np.mean([distance(width, seed) for seed in range(8)]) for width in widths]
    slope = np.polyfit(np.log(widths), np.log(distances), 1)[0]
    assert -0.6 < slope < -0.4


def test_zero_initialisation_needs_v_columns_only() -> None:
    """The second block of the diagonal initialisation is never reached, so 2 V columns agree."""
    rule = UpdateRule(0.05)
    narrow, wide = (init_mup_limit(7, scale, torch.float64, rule=rule) for scale in (0.0, 1.0))
    wide.w.zero_()
    torch.testing.assert_close(trained_logits(narrow), trained_logits(wide), rtol=1e-13, atol=1e-13)
    assert wide.u[:, 7:].abs().max() == 0 and wide.w[:, 7:].abs().max() == 0


INTERPRETED = pytest.param("kernels", marks=pytest.mark.slow)


@pytest.fixture(params=["cpu", "torch", INTERPRETED])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The compiled CPU step, or the steps of a GPU: the torch step, Triton's kernels."""
    if request.param == "torch":
        monkeypatch.setattr(gpu_step, "kernels_run_on", lambda device: False)
    elif request.param == "kernels" and not gpu_step.kernels_run_on(torch.device("cpu")):
        pytest.skip("kernels are interpreted on the CPU only where there is no GPU")
    yield request.param


def steps(engine: str, model: LinearModel, batches: list[Batch]) -> None:
    """Train with the engine, on the CPU."""
    take = sgd_steps if engine == "cpu" else gpu_step.gpu_steps
    take(model.u, model.w, batches, model.rule, model.scales)


def test_bfloat16_rounds_without_bias(engine: str) -> None:
    """Averaged over seeds, the bfloat16 step is the float32 step; each lands on a neighbour."""
    batch = toy_batch(1, 13, 9, 6, 4, 3, lr=1e-3)
    single = random_model(0, 13, 33, torch.bfloat16)
    exact_u, exact_w = single.u.float(), single.w.float()
    sgd_steps(exact_u, exact_w, [batch], UpdateRule())
    total = torch.zeros(13, 33, dtype=torch.float64)
    num_seeds = 100 if engine == "kernels" else 400  # interpreted kernels are slow
    for seed in range(num_seeds):
        scales = torch.ones(13), torch.ones(13)
        one = LinearModel(single.u.clone(), single.w.clone(), scales=scales)
        steps(engine, one, [replace(batch, words_seen=64 * seed)])
        assert (one.u.float() - exact_u).abs().max() <= 2**-7 * exact_u.abs().max()
        total += one.u.double()
    moved = (single.u.float() != exact_u).any(1)
    assert moved.sum() > 8
    # A rounding error has at most the size of a unit in the last place, 2^-7 |x|, and half that
    # deviation.
    deviations = (total / num_seeds - exact_u.double()) / (
        2**-8 * exact_u.abs().double() / num_seeds**0.5
    )
    assert deviations[moved].abs().max() < 5 and deviations[moved].abs().mean() > 0.05


def test_bfloat16_row_scales_take_the_decay(engine: str) -> None:
    """Rows decay by e^-45 in factors that 8 bits hardly hold; small scales go into their rows."""
    num_steps, decay = (150, 10.0) if engine == "kernels" else (5000, 0.3)
    batch, rule = toy_batch(1, 13, 9, 6, 4, 3, lr=0.03), UpdateRule(decay)
    batches = [replace(batch, words_seen=step) for step in range(num_steps)]
    model, exact = (
        init_mup_limit(13, 0.0, dtype, rule=rule) for dtype in (torch.bfloat16, torch.float64)
    )
    steps(engine, model, batches)
    exact.train_batches(batches)
    assert model.scales is not None
    for scale in model.scales:
        assert float(scale.min()) > 0.9e-3 and float(scale.max()) <= 1 and float(scale.min()) < 0.1
    ids = torch.arange(13)
    torch.testing.assert_close(model.gram(ids), exact.gram(ids).float(), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("embedding", list(Embedding))
def test_gram_and_norms(embedding: Embedding) -> None:
    model = random_model(3, 9, 4)
    table = {"input": model.u, "output": model.w, "sum": model.u + model.w}[embedding.value]
    rows, columns = torch.tensor([0, 8, 3]), torch.tensor([5, 0])
    torch.testing.assert_close(model.gram(rows, None, embedding), table[rows] @ table.T)
    torch.testing.assert_close(model.gram(rows, columns, embedding), table[rows] @ table[columns].T)
    torch.testing.assert_close(model.squared_norms(embedding), table.square().sum(1))


def test_state_round_trip() -> None:
    one, other = random_model(0, 9, 4), random_model(1, 9, 4)
    other.load({name: tensor.clone() for name, tensor in one.state().items()})
    assert torch.equal(one.u, other.u) and torch.equal(one.w, other.w)


@pytest.mark.parametrize("width", [5, 16])
def test_rows_on_a_gpu_start_at_multiples_of_16(width: int) -> None:
    """Torch's meta device stands for a GPU: neither is the CPU."""
    generator = torch.Generator().manual_seed(0)
    model = init_finite(7, width, ABC[Parametrization.mup], 0.5, generator, device="meta")
    assert model.u.shape == (7, width) and model.u.stride() == model.w.stride() == (16, 1)
