"""The fast step against its twin, the parametrizations, the limit, the authors' own program."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import SHAPES, arrays, toy_batch

from w2v_inf.config import Embedding, Parametrization
from w2v_inf.models.linear import LinearModel, init_finite, init_mup_limit
from w2v_inf.models.parametrization import ABC
from w2v_inf.models.step import exact_logit, tp4_logit
from w2v_inf.reference import updates as reference
from w2v_inf.stream import Batch

GOLDEN = Path(__file__).parents[1] / "golden"


def random_model(
    seed: int, vocab_size: int, width: int, dtype: torch.dtype = torch.float64
) -> LinearModel:
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(vocab_size, width, generator=generator, dtype=torch.float64).mul_(0.6)
    w = torch.randn(vocab_size, width, generator=generator, dtype=torch.float64).mul_(0.6)
    return LinearModel(u.to(dtype), w.to(dtype), lr_factors=(0.7, 1.3), weight_decay=0.2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tp4", [False, True])
def test_step_equals_twin(shape: tuple[int, ...], tp4: bool) -> None:
    model = random_model(0, shape[0], 5)
    model.logit = tp4_logit if tp4 else exact_logit
    u, w = model.u.numpy().copy(), model.w.numpy().copy()
    for seed in range(3):
        batch = toy_batch(seed, *shape)
        u, w, loss = reference.linear_update(
            u, w, **arrays(batch), weight_decay=0.2, lr_factors=(0.7, 1.3), tp4=tp4
        )
        assert model.update(batch) == pytest.approx(loss, rel=1e-12)
        np.testing.assert_allclose(model.u, u, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(model.w, w, rtol=1e-10, atol=1e-12)


def test_float32_error_is_rounding() -> None:
    """The float32 step errs from the float64 twin by no more than a few roundings of its entries."""
    batch = toy_batch(1, 13, 9, 6, 4, 3)
    single = random_model(0, 13, 33, torch.float32)
    u, w = single.u.double().numpy(), single.w.double().numpy()
    u, w, _ = reference.linear_update(
        u, w, **arrays(batch), weight_decay=0.2, lr_factors=(0.7, 1.3)
    )
    single.update(batch)
    for fast, slow in ((single.u, u), (single.w, w)):
        assert (
            np.abs(fast.numpy() - slow).max() <= 16 * np.finfo(np.float32).eps * np.abs(slow).max()
        )


def golden_positions(file: str) -> Iterator[tuple[dict, float]]:
    """The recorded positions and their losses."""
    z = np.load(GOLDEN / file)
    for context, target, noise, lr, loss in zip(
        *(z[k] for k in ("context", "target", "noise", "lr", "loss")), strict=True
    ):
        yield (
            {"context": context, "target": int(target), "noise": noise, "lr": float(lr)},
            float(loss),
        )


def golden_batch(position: dict) -> Batch:
    context, noise = (position[k].astype(np.int32)[None] for k in ("context", "noise"))
    return Batch(
        context,
        np.array([position["target"]], np.int32),
        noise,
        np.zeros(1, np.int32),
        1.0,
        position["lr"],
        0,
    )


@pytest.mark.parametrize("file", ["finite.npz", "limit.npz"])
def test_twin_repeats_the_authors_program(file: str) -> None:
    """3,000 positions of TP4's C code with its table of sigma; a few logits fall on the other side of a bin's edge."""
    z = np.load(GOLDEN / file)
    u, w = z["u_initial"].astype(np.float64), z["w_initial"].astype(np.float64)
    losses = []
    for position, expected in golden_positions(file):
        u, w, loss = reference.token_by_token(
            u, w, **position, weight_decay=float(z["weight_decay"]), tp4=True
        )
        losses.append(abs(loss - expected))
    np.testing.assert_allclose(u, z["u_final"], atol=2e-4)
    np.testing.assert_allclose(w, z["w_final"], atol=2e-4)
    assert np.mean(np.array(losses) > 1e-3) < 0.01


@pytest.mark.parametrize("file", ["finite.npz", "limit.npz"])
def test_fast_step_repeats_the_authors_program(file: str) -> None:
    """Position by position our rule is theirs, but for ids repeated within a position (first order in lr)."""
    z = np.load(GOLDEN / file)
    u, w = z["u_initial"].astype(np.float64), z["w_initial"].astype(np.float64)
    model = LinearModel(
        torch.from_numpy(u),
        torch.from_numpy(w),
        weight_decay=float(z["weight_decay"]),
        logit=tp4_logit,
    )
    checked = 0
    for position, _ in golden_positions(file):
        ids = (
            [i for i in position["context"] if i >= 0],
            [i for i in position["noise"] if i != position["target"]],
        )
        if all(len(set(some)) == len(some) for some in ids):
            one = reference.token_by_token(
                model.u.numpy(),
                model.w.numpy(),
                **position,
                weight_decay=model.weight_decay,
                tp4=True,
            )
            assert model.update(golden_batch(position)) == pytest.approx(one[2], rel=1e-9)
            np.testing.assert_allclose(model.u, one[0], rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(model.w, one[1], rtol=1e-10, atol=1e-13)
            checked += 1
        else:
            model.update(golden_batch(position))
    assert checked > 1000
    np.testing.assert_allclose(model.u, z["u_final"], atol=3e-3)
    np.testing.assert_allclose(model.w, z["w_final"], atol=3e-3)


def test_true_sigma_does_not_repeat_the_authors_program() -> None:
    z = np.load(GOLDEN / "finite.npz")
    model = LinearModel(
        *(torch.from_numpy(z[k].astype(np.float64)) for k in ("u_initial", "w_initial")),
        weight_decay=0.02,
    )
    for position, _ in golden_positions("finite.npz"):
        model.update(golden_batch(position))
    assert 0.02 < np.abs(model.u.numpy() - z["u_final"]).max() < 0.5


def trained_logits(
    model: LinearModel,
    shape: tuple[int, ...] = (7, 5, 4, 3, 2),
    steps: int = 6,
    whole: bool = False,
) -> torch.Tensor:
    model.weight_decay, model.whole_gradient = 0.05, whole
    for seed in range(steps):
        model.update(toy_batch(seed, *shape))
    return model.u @ model.w.T


def finite(
    width: int, parametrization: Parametrization, seed: int, scale: float = 0.0, vocab_size: int = 7
) -> LinearModel:
    generator = torch.Generator().manual_seed(seed)
    return init_finite(vocab_size, width, ABC[parametrization], scale, generator, torch.float64)


def test_mfp_and_mup_coincide() -> None:
    """For one hidden layer they are one orbit of the abc symmetry (a + t, b - t, c - 2t)."""
    for scale in (0.0, 1.0):
        mup, mfp = (
            trained_logits(finite(33, p, 0, scale))
            for p in (Parametrization.mup, Parametrization.mfp)
        )
        torch.testing.assert_close(mup, mfp, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("parametrization", [p for p in Parametrization if p in ABC])
def test_scales_equal_training_the_raw_parameters(parametrization: Parametrization) -> None:
    """Autograd on w_l behind W_l = n^-a_l w_l with step lr n^-c gives the logits of our two scaled matrices."""
    n, (a1, b1, a2, b2, c) = 9, ABC[parametrization]
    ours = finite(n, parametrization, 0, scale=1.0)
    u_raw, w_raw = ours.u * n**0.5 * n**a1, ours.w * n**-0.5 * n**a2
    assert float(u_raw.std() * n**b1) == pytest.approx(1, abs=0.4) and float(
        w_raw.std() * n**b2
    ) == pytest.approx(1, abs=0.4)
    u_raw.requires_grad_()
    w_raw.requires_grad_()
    batch = toy_batch(0, 7, 5, 4, 3, 1)
    loss = torch.zeros((), dtype=torch.float64)
    for e in range(5):
        words = batch.context[e][batch.context[e] >= 0]
        f = (n**-a2 * w_raw) @ (n**-a1 * u_raw)[words].mean(0)
        noise = batch.negatives[e][batch.negatives[e] != batch.target[e]]
        loss = (
            loss
            - torch.nn.functional.logsigmoid(f[batch.target[e]])
            - torch.nn.functional.logsigmoid(-f[noise]).sum()
        )
    loss.backward()
    with torch.no_grad():
        u_raw -= batch.lr * n**-c * u_raw.grad
        w_raw -= batch.lr * n**-c * w_raw.grad
        expected = (n**-a1 * u_raw) @ (n**-a2 * w_raw).T
    ours.update(batch)
    torch.testing.assert_close(ours.u @ ours.w.T, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("scale", "whole"), [(0.0, False), (0.8, False), (0.0, True)])
@pytest.mark.parametrize("shape", [(7, 5, 4, 3, 2), (11, 17, 1, 6, 5)])
def test_mup_nets_approach_the_limit(scale: float, whole: bool, shape: tuple[int, ...]) -> None:
    """Distance of the logits to the limit's falls with the root of the width, from a zero and a random output start."""
    limit = trained_logits(init_mup_limit(shape[0], scale, torch.float64), shape, whole=whole)
    widths, distances = [64, 512, 4096], []
    for width in widths:
        nets = [
            trained_logits(
                finite(width, Parametrization.mup, seed, scale, shape[0]), shape, whole=whole
            )
            for seed in range(8)
        ]
        distances.append(np.mean([float((net - limit).norm()) for net in nets]))
    slope = np.polyfit(np.log(widths), np.log(distances), 1)[0]
    assert -0.6 < slope < -0.4


def test_zero_start_limit_needs_v_columns_only() -> None:
    """The second block of the diagonal initialisation is never reached: 2V columns give the same, bit for bit."""
    narrow, wide = init_mup_limit(7, 0.0, torch.float64), init_mup_limit(7, 1.0, torch.float64)
    wide.w.zero_()
    torch.testing.assert_close(trained_logits(narrow), trained_logits(wide), rtol=1e-13, atol=1e-13)
    assert wide.u[:, 7:].abs().max() == 0 and wide.w[:, 7:].abs().max() == 0


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
def test_rows_on_a_card_start_at_multiples_of_16(width: int) -> None:
    """Torch's meta device stands for a card: it is not the CPU either."""
    model = init_finite(
        7, width, ABC[Parametrization.mup], 0.5, torch.Generator().manual_seed(0), device="meta"
    )
    assert model.u.shape == (7, width) and model.u.stride() == model.w.stride() == (16, 1)
