"""Every case of `test_column_parallel.py`, run by each process of a job; the main one writes."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy import PLAIN, RULES, SHAPES, toy_batch

from w2v_inf import distributed
from w2v_inf.config import Embedding, Parametrization
from w2v_inf.evaluation.analogy import RULES, analogy_hits
from w2v_inf.models.column_parallel import ColumnShard
from w2v_inf.models.cpu import threads
from w2v_inf.models.gpu import step as gpu_step
from w2v_inf.models.linear import LinearModel, init_finite, init_mup_limit, limit_width
from w2v_inf.models.parametrization import ABC
from w2v_inf.runs.weights import save_model
from w2v_inf.stream import Batch

WIDE = 391
"""Columns enough for two threads in each of three processes."""


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Their names and settings."""
    usual = {
        "shape": SHAPES[1],
        "width": 7,
        "scale": 0.0,
        "rule": PLAIN,
        "engine": "cpu",
        "dtype": torch.float64,
    }
    interpreted = gpu_step.kernels_run_on(torch.device("cpu"))  # where there is no GPU
    engines = ["cpu", "torch"] + ["kernels"] * interpreted
    for k, shape in enumerate(SHAPES):
        for engine in engines:
            yield (
                f"{engine}-{k}",
                usual
                | {"shape": shape, "scale": 0.6, "rule": RULES[k % 3], "engine": engine},
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
    """The case's model: this process's columns, or all of them in a job of one."""
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
        part.rule = replace(case["rule"], lr_factors=PLAIN.lr_factors)
    else:
        rule = replace(case["rule"], lr_factors=(1.0, 1.0))
        part = init_mup_limit(vocab_size, scale, case["dtype"], columns=columns, rule=rule)
    return ColumnShard(part, width) if distributed.world_size() > 1 else part


def batches(case: dict[str, Any]) -> list[Batch]:
    return [toy_batch(seed, *case["shape"]) for seed in range(4)]


def outcome(case: dict[str, Any], file: Path) -> dict[str, np.ndarray]:
    """Train the case's model and evaluate all of it; its tensors go to `file`."""
    model, vocab_size = build(case), case["shape"][0]
    part = model.part if isinstance(model, ColumnShard) else model
    losses = (
        model.train_batches(batches(case))
        if case["engine"] == "cpu"
        else steps_of_a_gpu(part, case)
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


def steps_of_a_gpu(part: LinearModel, case: dict[str, Any]) -> list[float]:
    """As on a GPU: by kernels, which are interpreted here, or in torch."""
    with pytest.MonkeyPatch.context() as patch:
        if case["engine"] == "torch":
            patch.setattr(gpu_step, "kernels_run_on", lambda device: False)
        assert gpu_step.kernels_run_on(part.u.device) == (case["engine"] == "kernels")
        all_reduce = distributed.all_reduce_sum if distributed.world_size() > 1 else None
        losses = gpu_step.gpu_steps(
            part.u, part.w, batches(case), part.rule, part.scales, all_reduce
        )
        return losses.tolist()


def load_written(file: Path) -> dict[str, torch.Tensor]:
    """The file, once the main process has written it."""
    distributed.all_reduce_max(0)
    return load_file(file)


def main(folder: Path) -> None:
    with distributed.process_group():
        for name, case in cases():
            with threads.training_threads(2 if name == "threads" else 1):
                found = outcome(case, folder / f"{name}.safetensors")
            if distributed.is_main_process():
                np.savez(folder / f"{name}.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
