"""What each rank of a job of `test_shards.py` runs: every case over the ranks there are; the first writes what came out."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import SHAPES, toy_batch

from w2v_inf import distributed
from w2v_inf.config import Embedding, Parametrization
from w2v_inf.evaluation.analogy import RULES, analogy_hits
from w2v_inf.models.column_parallel import ColumnShard
from w2v_inf.models.cpu import threads
from w2v_inf.models.gpu import step as gpu_step
from w2v_inf.models.linear import LinearModel, init_finite, init_mup_limit, limit_width
from w2v_inf.models.parametrization import ABC
from w2v_inf.models.step import exact_logit, tp4_logit
from w2v_inf.runs.weights import save_model
from w2v_inf.stream import Batch

WIDE = 391
"""Columns enough for two threads on each of three ranks."""


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and what they set."""
    usual = {
        "shape": SHAPES[1],
        "width": 7,
        "scale": 0.0,
        "tp4": False,
        "whole": False,
        "engine": "fused",
        "dtype": torch.float64,
    }
    engines = ["fused", "torch"] + ["kernels"] * gpu_step.kernels_run_on(
        torch.device("cpu")
    )  # interpreted, where there is no card
    for k, shape in enumerate(SHAPES):
        for engine in engines:
            yield (
                f"{engine}-{k}",
                usual
                | {"shape": shape, "scale": 0.6, "tp4": k == 2, "whole": k == 1, "engine": engine},
            )
    for k in (1, 2, 4):
        yield f"limit-{k}", usual | {"shape": SHAPES[k], "width": 0}
        yield f"limit-random-{k}", usual | {"shape": SHAPES[k], "width": 0, "scale": 0.5}
    yield "threads", usual | {"shape": SHAPES[2], "width": WIDE, "scale": 0.6}
    for engine in engines:
        yield (
            f"bfloat16-{engine}",
            usual | {"shape": SHAPES[2], "width": 0, "dtype": torch.bfloat16, "engine": engine},
        )


def build(case: dict[str, Any]) -> ColumnShard | LinearModel:
    """The case's model: this rank's columns, or all of them in a job of one."""
    vocab_size, scale = case["shape"][0], case["scale"]
    width = case["width"] or limit_width(vocab_size, scale)
    columns = distributed.shard_range(width)
    if case["width"]:
        generator = torch.Generator().manual_seed(0)
        part = init_finite(
            vocab_size,
            width,
            ABC[Parametrization.mup],
            scale,
            generator,
            case["dtype"],
            columns=columns,
        )
        part.lr_factors = 0.7, 1.3
    else:
        part = init_mup_limit(vocab_size, scale, case["dtype"], columns=columns)
    part.weight_decay, part.whole_gradient = 0.2, case["whole"]
    part.logit = tp4_logit if case["tp4"] else exact_logit
    return ColumnShard(part, width) if distributed.world_size() > 1 else part


def batches(case: dict[str, Any]) -> list[Batch]:
    return [toy_batch(seed, *case["shape"]) for seed in range(4)]


def outcome(case: dict[str, Any], file: Path) -> dict[str, np.ndarray]:
    """Train the case's model and ask it everything; its tensors go to `file`."""
    model, vocab_size = build(case), case["shape"][0]
    part = model.part if isinstance(model, ColumnShard) else model
    losses = (
        model.train_batches(batches(case))
        if case["engine"] == "fused"
        else steps_of_a_card(part, case)
    )
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(vocab_size, (5, 4), generator=generator)
    dtype = torch.float32 if part.scales else part.u.dtype
    found = {
        "loss": torch.tensor(losses),
        "gram": model.gram(ids[0], embedding=Embedding.sum),
        "block": model.gram(ids[0], ids[1], Embedding.output),
        "norms": model.squared_norms(),
        "product": model.gram_matmul(
            torch.randn(vocab_size, 3, generator=generator, dtype=torch.float64).to(dtype)
        ),
        "vectors": model.vectors(ids[0]),
        "hits": torch.stack([analogy_hits(model, ids)[rule] for rule in RULES]),
    }
    save_model(file, model)
    again = build(case)
    again.load(load_written(file))
    assert all(torch.equal(tensor, again.state()[name]) for name, tensor in model.state().items())
    return {name: value.numpy() for name, value in found.items()}


def steps_of_a_card(part: LinearModel, case: dict[str, Any]) -> list[float]:
    """As on a card: by kernels, which are interpreted here, or in torch."""
    with pytest.MonkeyPatch.context() as patch:
        if case["engine"] == "torch":
            patch.setattr(gpu_step, "kernels_run_on", lambda device: False)
        assert gpu_step.kernels_run_on(part.u.device) == (case["engine"] == "kernels")
        return part.update_on_device(
            batches(case), distributed.all_reduce_sum if distributed.world_size() > 1 else None
        )


def load_written(file: Path) -> dict[str, torch.Tensor]:
    """The file, once the first rank has written it."""
    distributed.all_reduce_max(0)
    return load_file(file)


def main(folder: Path) -> None:
    with distributed.process_group():
        for name, case in cases():
            threads.use_threads(2 if name == "threads" else 1)
            found = outcome(case, folder / f"{name}.safetensors")
            if distributed.is_main_process():
                np.savez(folder / f"{name}.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
