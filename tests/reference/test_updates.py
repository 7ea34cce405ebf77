"""The reference step against the authors' own program, and against itself."""

import numpy as np
import pytest
from toy import GOLDEN, SHAPES, arrays, golden_positions, toy_batch

from w2v_inf.reference import updates as reference


@pytest.mark.parametrize("file", ["finite.npz", "limit.npz"])
def test_repeats_the_authors_program(file: str) -> None:
    """3,000 positions of TP4's C code with its sigmoid table.

    A few logits fall on the other side of an entry's edge.
    """
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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tp4", "whole"), [(False, False), (True, False), (False, True)])
def test_the_step_is_a_matrix(shape: tuple[int, ...], tp4: bool, whole: bool) -> None:
    """Given the gradients of the logits, a step is one linear map of every column."""
    rng = np.random.default_rng(0)
    u, w = rng.normal(size=(2, shape[0], 5))
    batch = arrays(toy_batch(0, *shape)) | {"weight_decay": 0.2, "tp4": tp4, "whole": whole}
    new_u, new_w, _ = reference.linear_update(u, w, **batch)
    stepped = reference.step_matrix(u, w, **batch) @ np.concatenate([u, w])
    np.testing.assert_allclose(stepped, np.concatenate([new_u, new_w]), rtol=1e-10, atol=1e-12)
