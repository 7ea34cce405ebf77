"""From options to a model."""

import torch

from w2v_inf import distributed
from w2v_inf.config import (
    Config,
    Dtype,
    Engine,
    Finite,
    ModelConfig,
    MupLimit,
    NtkLimit,
    Parametrization,
)
from w2v_inf.errors import UserError
from w2v_inf.models.column_parallel import ColumnShard
from w2v_inf.models.device import free_bytes, pick_device
from w2v_inf.models.linear import LinearModel, init_finite, init_mup_limit, limit_width
from w2v_inf.models.lowrank.model import LowRankLimit, arena_slots, factors_bytes, init_lowrank
from w2v_inf.models.memory_check import GIB, OVERHEAD_BYTES, check_memory, rank_of
from w2v_inf.models.ntk_limit import init_ntk_limit
from w2v_inf.models.parametrization import ABC
from w2v_inf.models.protocol import Model
from w2v_inf.models.step import UpdateRule

TORCH_DTYPES = {Dtype.float32: torch.float32, Dtype.bfloat16: torch.bfloat16}


def build_model(config: Config, vocab_size: int, loading: bool = False) -> Model:
    """The configured model at its initialisation, on the configured device.

    In a job of several processes, the columns of this process.
    loading: only to load a trained model into it, which may need less memory than training.
    Raises: UserError if it does not fit the device's free memory, which is checked before anything
      is allocated, or cannot be split over the processes.
    """
    device, options = pick_device(config.device), config.model
    if isinstance(options, MupLimit):
        _check_engine(options, vocab_size, device)
    width = _width(options, vocab_size)
    _check_processes(options, width)
    check_memory(options, vocab_size, device, loading)
    distributed.all_reduce_max(0)  # no process allocates before all have checked
    model = _initialise(config, vocab_size, width, device)
    if distributed.world_size() > 1 and isinstance(model, LinearModel):
        return ColumnShard(model, width)
    return model


def _initialise(config: Config, vocab_size: int, width: int, device: torch.device) -> Model:
    """The model, or this process's columns of it."""
    options, train = config.model, config.train
    rule = UpdateRule(
        train.weight_decay, sigmoid=train.sigmoid, context_gradient=train.context_gradient
    )
    generator = torch.Generator().manual_seed(config.seed)
    scale, columns = options.output_init_scale, distributed.shard_range(width)
    if isinstance(options, Finite):
        custom = options.parametrization is Parametrization.custom
        a1, b1, a2, b2, c = options.exponents if custom else ABC[options.parametrization]
        return init_finite(
            vocab_size,
            width,
            (a1, b1, a2, b2, c),
            scale,
            generator,
            device=device,
            columns=columns,
            rule=rule,
        )
    if isinstance(options, MupLimit) and options.engine is Engine.lowrank:
        return _initialise_lowrank(options, vocab_size, device, rule)
    if isinstance(options, MupLimit):
        dtype = TORCH_DTYPES[options.dtype]
        return init_mup_limit(vocab_size, scale, dtype, device, columns, rule)
    if isinstance(options, NtkLimit):
        return init_ntk_limit(vocab_size, scale, generator, device=device, rule=rule)
    raise TypeError(f"no such model: {options.name}")


def _initialise_lowrank(
    options: MupLimit, vocab_size: int, device: torch.device, rule: UpdateRule
) -> LowRankLimit:
    """The low-rank limit; its pair table takes what memory the rest leaves."""
    rank = rank_of(options, vocab_size)
    free = free_bytes(device) - OVERHEAD_BYTES - factors_bytes(vocab_size, rank)
    slots = arena_slots(options.pair_table_gib or 0.0, vocab_size, max(GIB // 64, free))
    return init_lowrank(vocab_size, rank, slots, rule=rule, tolerance=options.tolerance or 0.0)


def _width(options: ModelConfig, vocab_size: int) -> int:
    """Columns of the model's matrices."""
    if isinstance(options, Finite):
        return options.width
    return limit_width(vocab_size, options.output_init_scale)


def _check_processes(options: ModelConfig, width: int) -> None:
    """Raises: UserError for a model that cannot be split over the processes of this job."""
    if distributed.world_size() == 1:
        return
    lowrank = isinstance(options, MupLimit) and options.engine is Engine.lowrank
    if lowrank or not isinstance(options, Finite | MupLimit):
        name = "model.engine=lowrank" if lowrank else f"model={options.name}"
        raise UserError(
            f"{name} runs in one process, and this job has {distributed.world_size()}: "
            "start it without torchrun"
        )
    if width < distributed.world_size():
        raise UserError(
            f"{width} columns cannot be split over {distributed.world_size()} processes: "
            "lower torchrun's --nproc-per-node"
        )


def _check_engine(options: MupLimit, vocab_size: int, device: torch.device) -> None:
    """Raises: UserError for a rank above V, or an engine that runs on no GPU."""
    if options.rank and options.rank > vocab_size:
        raise UserError(
            f"model.rank must be at most V={vocab_size:,}, the words of the vocabulary, "
            f"got {options.rank:,}"
        )
    if options.engine is Engine.lowrank and device.type != "cpu":
        raise UserError(f"model.engine=lowrank runs on the CPU, device is {device}: add device=cpu")
