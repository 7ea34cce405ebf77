"""A model's tensors as a file, and runs that cannot be opened."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from composed import config_of
from fake_runs import make_run
from small_runs import small_config

from w2v_inf import compose
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


@pytest.mark.parametrize("name", ["model.safetensors", "summary.json", "config.yaml", "vocab.tsv"])
def test_files_of_another_user_are_not_called_damaged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told to delete a run that may be good."""
    folder = make_run(tmp_path / "run", width=4)
    compose.save(config_of("model.width=4"), folder / "config.yaml")
    (folder / "vocab.tsv").write_text("a\t2\nb\t1\n")
    (folder / "model.safetensors").touch()
    opened = Path.open

    def refuse(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=rf"{name} cannot be read \(Permission denied\)") as caught:
        open_run(folder, config_of())
    assert "delete" not in str(caught.value) and "train" not in str(caught.value)


def test_a_damaged_vocabulary_of_a_run_is_no_corpus_to_delete(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", width=4)
    (folder / "vocab.tsv").write_text("a\t2\nb\tx\n")
    with pytest.raises(
        UserError, match="vocab.tsv line 2 .*: restore the file from a copy"
    ) as said:
        open_run(folder, config_of())
    assert "delete" not in str(said.value)
