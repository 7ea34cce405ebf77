"""The models and the one protocol they answer; the trainer and the evaluation never ask which model they have."""

import torch

from w2v_inf import distributed
from w2v_inf.config import (
    Config,
    ContextGradient,
    Dtype,
    Engine,
    Finite,
    ModelConfig,
    MupLimit,
    Parametrization,
    Sigmoid,
)
from w2v_inf.errors import UserError
from w2v_inf.models.column_parallel import ColumnShard
from w2v_inf.models.device import free_bytes, pick_device
from w2v_inf.models.linear import LinearModel, init_finite, init_mup_limit, limit_width
from w2v_inf.models.lowrank.model import arena_slots, factors_bytes, init_lowrank
from w2v_inf.models.memory_check import GIB, OVERHEAD_BYTES, check_memory, rank_of
from w2v_inf.models.ntk_limit import init_ntk_limit
from w2v_inf.models.parametrization import ABC
from w2v_inf.models.protocol import Model
from w2v_inf.models.step import exact_logit, tp4_logit

TORCH_DTYPES = {Dtype.float32: torch.float32, Dtype.bfloat16: torch.bfloat16}


def build_model(config: Config, vocab_size: int) -> Model:
    """The configured model at its start, on the configured device; over several ranks this one's share of it.

    Raises: UserError if it does not fit the device's free memory (checked before anything is allocated), or cannot be shared out.
    """
    device, options = pick_device(config.device), config.model
    if isinstance(options, MupLimit):
        _check_engine(options, vocab_size, device)
    width = _width(options, vocab_size)
    _check_ranks(options, width)
    check_memory(options, vocab_size, device)
    distributed.all_reduce_max(0)  # nobody allocates before all have looked
    generator = torch.Generator().manual_seed(config.seed)
    scale, columns = options.output_init_scale, distributed.shard_range(width)
    if isinstance(options, Finite):
        custom = options.parametrization is Parametrization.custom
        a1, b1, a2, b2, c = options.exponents if custom else ABC[options.parametrization]
        model = init_finite(
            vocab_size, width, (a1, b1, a2, b2, c), scale, generator, device=device, columns=columns
        )
    elif isinstance(options, MupLimit) and options.engine is Engine.lowrank:
        rank = rank_of(options, vocab_size)
        free = max(GIB // 64, free_bytes(device) - OVERHEAD_BYTES - factors_bytes(vocab_size, rank))
        model = init_lowrank(
            vocab_size, rank, arena_slots(options.pair_table_gib or 0.0, vocab_size, free)
        )
        model.tolerance = options.tolerance or 0.0
    elif isinstance(options, MupLimit):
        model = init_mup_limit(vocab_size, scale, TORCH_DTYPES[options.dtype], device, columns)
    else:
        model = init_ntk_limit(vocab_size, scale, generator, device=device)
    model.weight_decay = config.train.weight_decay
    model.whole_gradient = config.train.context_gradient is ContextGradient.whole
    model.logit = tp4_logit if config.train.sigmoid is Sigmoid.tp4 else exact_logit
    return (
        ColumnShard(model, width)
        if distributed.world_size() > 1 and isinstance(model, LinearModel)
        else model
    )


def _width(options: ModelConfig, vocab_size: int) -> int:
    """Columns of the model's matrices."""
    return (
        options.width
        if isinstance(options, Finite)
        else limit_width(vocab_size, options.output_init_scale)
    )


def _check_ranks(options: ModelConfig, width: int) -> None:
    """Raises: UserError for a model that cannot be shared out over the ranks there are."""
    if distributed.world_size() == 1:
        return
    lowrank = isinstance(options, MupLimit) and options.engine is Engine.lowrank
    if lowrank or not isinstance(options, Finite | MupLimit):
        name = "model.engine=lowrank" if lowrank else f"model={options.name}"
        raise UserError(
            f"{name} runs in one process, here are {distributed.world_size()} ranks: start it without torchrun"
        )
    if width < distributed.world_size():
        raise UserError(
            f"{width} columns cannot be shared out over {distributed.world_size()} ranks: lower torchrun's --nproc-per-node"
        )


def _check_engine(options: MupLimit, vocab_size: int, device: torch.device) -> None:
    """Raises: UserError for a rank above V, or an engine that no card runs."""
    if options.rank and options.rank > vocab_size:
        raise UserError(
            f"model.rank must be at most V={vocab_size:,}, the words of the vocabulary, got {options.rank:,}"
        )
    if options.engine is Engine.lowrank and device.type != "cpu":
        raise UserError(f"model.engine=lowrank runs on the CPU, device is {device}: add device=cpu")
