"""A model's tensors as a file, and runs that cannot be opened."""

from pathlib import Path

import pytest
import torch
from small_runs import small_config

from w2v_inf.errors import UserError
from w2v_inf.evaluation.evaluate import evaluate
from w2v_inf.models.linear import LinearModel
from w2v_inf.runs.folder import STATE
from w2v_inf.runs.weights import load_state, open_run, save_model
from w2v_inf.training.train import train


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_come_back_with_the_same_bits(dtype: torch.dtype, tmp_path: Path) -> None:
    u, w = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    save_model(tmp_path / STATE, LinearModel(u.T.contiguous().T, w))  # u has gaps
    model = LinearModel(torch.zeros_like(u), torch.zeros_like(w))
    load_state(tmp_path, model)
    assert torch.equal(model.u, u) and torch.equal(model.w, w) and model.u.dtype == dtype


@pytest.mark.slow  # trains a run
def test_damaged_and_missing_run_files(tmp_path: Path) -> None:
    config = small_config(tmp_path, "train.epochs=1", run="run")
    with pytest.raises(UserError, match="summary.json not found"):
        evaluate(config)
    folder = train(config)
    (folder / STATE).write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="model.safetensors is damaged"):
        open_run(folder, config)
    (folder / STATE).unlink()
    with pytest.raises(UserError, match="model.safetensors not found: run w2v-inf train"):
        open_run(folder, config)
    (folder / "summary.json").write_text("{")
    with pytest.raises(UserError, match="summary.json is damaged"):
        open_run(folder, config)
