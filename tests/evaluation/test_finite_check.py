"""Tables and lengths that float32 cannot hold are refused before anything is saved."""

import math
from pathlib import Path

import pytest
import torch
from small_runs import small_config

from w2v_inf import api
from w2v_inf.errors import UserError
from w2v_inf.evaluation.evaluate import evaluate_vectors
from w2v_inf.evaluation.finite_check import lengths_fit
from w2v_inf.models.linear import LinearModel
from w2v_inf.training import train as train_stage


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e25, -1e19])
@pytest.mark.parametrize("table", [0, 1])
def test_one_entry_is_enough(table: int, value: float) -> None:
    tables = torch.ones(3, 2), torch.ones(3, 2)
    assert lengths_fit(LinearModel(*tables))
    tables[table][1, 1] = value
    assert not lengths_fit(LinearModel(*tables))


def test_both_embeddings_fit_and_so_does_their_sum() -> None:
    model = LinearModel(torch.full((2, 2), 3e18), torch.full((2, 2), 3e18))
    assert not lengths_fit(model)  # the sum is twice as long
    model.u /= 4
    model.w /= 4
    assert lengths_fit(model) and torch.isfinite(model.gram(torch.arange(2))).all()


@pytest.mark.slow  # trains
@pytest.mark.parametrize("value", [math.nan, 1e25])
def test_a_last_step_that_ruins_a_table_is_one_line(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own loss was finite. Nothing of the epoch is evaluated or saved."""
    config = small_config(tmp_path, "train.epochs=1", run="run")
    build = train_stage.build_model

    class Ruined(LinearModel):
        def train_batches(self, batches) -> list[float]:
            losses = super().train_batches(batches)
            self.w[2, 1] = value
            return losses

    def build_ruined(*args):
        model = build(*args)
        assert isinstance(model, LinearModel)
        return Ruined(model.u, model.w, model.rule)

    monkeypatch.setattr(train_stage, "build_model", build_ruined)
    with pytest.raises(UserError, match=r"too long for float32 after epoch 1: lower train.lr"):
        train_stage.train(config)
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert '"epoch": 1,' not in (tmp_path / "run" / "metrics.jsonl").read_text().split("eval")[-1]


def test_vectors_of_a_file_that_are_too_long(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("2 2\nking 1e25 1\nqueen 1 2\n")
    for ask in (evaluate_vectors, api.load):
        with pytest.raises(UserError, match="v.txt has vectors longer than 5e.18 or not finite"):
            ask(path)
    assert len(list(tmp_path.iterdir())) == 1
