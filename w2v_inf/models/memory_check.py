"""Whether a model fits into the free memory, before anything is allocated; and what would fit."""

import dataclasses

import torch

from w2v_inf import distributed
from w2v_inf.config import Dtype, Engine, Finite, ModelConfig, MupLimit
from w2v_inf.errors import UserError
from w2v_inf.models.device import free_bytes
from w2v_inf.models.lowrank.model import factors_bytes, lowrank_bytes

GIB = 2**30
DEFAULT_RANK, MAX_TOLERANCE_RANK = 256, 1024
OVERHEAD_BYTES = GIB // 2
"""Python, torch, the temporaries of a step, and the tables [905, V] of an evaluation at V = 70k."""


def model_bytes(options: ModelConfig, vocab_size: int, loading: bool = False) -> int:
    """Memory of the model's tables: to train it, or with `loading` to use a trained one."""
    if isinstance(options, Finite):
        return 8 * vocab_size * options.width
    random_start = options.output_init_scale > 0
    if not isinstance(options, MupLimit):
        return 4 * vocab_size**2 * (3 if random_start else 1)
    if options.engine is Engine.lowrank:
        rank = rank_of(options, vocab_size)
        return lowrank_bytes(vocab_size, rank, options.pair_table_gib or 0.0, loading)
    entry_bytes = 2 if options.dtype is Dtype.bfloat16 else 4
    return 2 * entry_bytes * vocab_size**2 * (2 if random_start else 1)


def rank_of(options: MupLimit, vocab_size: int) -> int:
    """Rank of the low-rank engine; with a tolerance its upper bound."""
    default = MAX_TOLERANCE_RANK if options.tolerance else DEFAULT_RANK
    return options.rank or min(default, vocab_size)


def check_memory(
    options: ModelConfig, vocab_size: int, device: torch.device, loading: bool = False
) -> None:
    """Refuse a model, or this process's share of it, that does not fit.

    Args: as `model_bytes`.
    Raises: UserError that says what would fit.
    """
    needed, free = _needed_bytes(options, vocab_size, loading), free_bytes(device)
    if needed <= free:
        return
    per_process = " per process" if distributed.world_size() > 1 else ""
    size = f"{_gib(needed)}{per_process} for V={vocab_size:,}, {device} has {_gib(free)} free"
    more_gpus = _advice_on_gpus(options, vocab_size, device, free)
    if isinstance(options, Finite):
        width = max(1, (free - OVERHEAD_BYTES) * distributed.world_size() // (8 * vocab_size))
        raise UserError(
            f"model.width={options.width} needs {size}: {more_gpus}model.width={width} fits, "
            "or lower corpus.max_vocab"
        )
    if isinstance(options, MupLimit) and options.pair_table_gib:
        raise UserError(
            f"model.pair_table_gib={options.pair_table_gib:g} and the tables of rank "
            f"{rank_of(options, vocab_size):,} take {size}: lower model.pair_table_gib or "
            "model.rank, or corpus.max_vocab"
        )
    vocab = _fitting_vocab(options, vocab_size, free, loading)
    advice = f"corpus.max_vocab={vocab} fits, or " if vocab else ""
    advice += "raise corpus.min_count, or use model=finite"
    if isinstance(options, MupLimit) and options.engine is Engine.lowrank:
        rank = _fitting_rank(vocab_size, free, loading)
        advice = f"model.rank={rank} fits, {advice}" if rank >= 1 else advice
    elif isinstance(options, MupLimit):
        advice = _advice_on_engines(options, vocab_size, device, free) + more_gpus + advice
    raise UserError(f"model={options.name} needs {size}: {advice}")


def _needed_bytes(options: ModelConfig, vocab_size: int, loading: bool = False) -> int:
    """Memory of one process."""
    tables = model_bytes(options, vocab_size, loading)
    return -(-tables // distributed.world_size()) + OVERHEAD_BYTES


def _advice_on_gpus(options: ModelConfig, vocab_size: int, device: torch.device, free: int) -> str:
    """How many GPUs like this one would suffice, if processes can share the model's columns."""
    is_lowrank = isinstance(options, MupLimit) and options.engine is Engine.lowrank
    has_columns = isinstance(options, Finite | MupLimit) and not is_lowrank
    if device.type == "cpu" or not has_columns or free <= OVERHEAD_BYTES:
        return ""
    num_gpus = -(-model_bytes(options, vocab_size) // (free - OVERHEAD_BYTES))
    return f"torchrun --nproc-per-node={num_gpus} fits on {num_gpus} such GPUs, "


def _advice_on_engines(options: MupLimit, vocab_size: int, device: torch.device, free: int) -> str:
    """Which other forms of the dense limit would fit."""
    advice = ""
    if _needed_bytes(dataclasses.replace(options, dtype=Dtype.bfloat16), vocab_size) <= free:
        advice += "model.dtype=bfloat16 fits, "
    can_be_lowrank = options.output_init_scale == 0 and distributed.world_size() == 1
    lowrank = model_bytes(MupLimit(engine=Engine.lowrank), vocab_size) + OVERHEAD_BYTES
    if can_be_lowrank and lowrank <= free_bytes(torch.device("cpu")):
        advice += f"model.engine=lowrank{'' if device.type == 'cpu' else ' device=cpu'} fits, "
    return advice


def _fitting_rank(vocab_size: int, free: int, loading: bool) -> int:
    """The largest rank that fits into `free` bytes; 0 or below if none does."""
    per_rank = factors_bytes(vocab_size, 1) - factors_bytes(vocab_size, 0)
    rest = OVERHEAD_BYTES + lowrank_bytes(vocab_size, 0, None, loading)
    return (free - rest) // per_rank


def _fitting_vocab(options: ModelConfig, vocab_size: int, free: int, loading: bool) -> int:
    """A vocabulary that fits into `free` bytes, in thousands where that is possible, or 0."""
    fitting = vocab_size
    while fitting and _needed_bytes(options, fitting, loading) > free:
        fitting = int(fitting * 0.95)
    return fitting // 1000 * 1000 or fitting


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
