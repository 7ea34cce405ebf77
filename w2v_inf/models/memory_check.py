"""Whether a model fits the memory that is free, before anything is allocated; and what would fit."""

import dataclasses

import torch

from w2v_inf import distributed
from w2v_inf.config import (
    Dtype,
    Engine,
    Finite,
    ModelConfig,
    MupLimit,
)
from w2v_inf.errors import UserError
from w2v_inf.models.device import free_bytes
from w2v_inf.models.lowrank.model import factors_bytes, lowrank_bytes

GIB = 2**30
DEFAULT_RANK, MAX_TOLERANCE_RANK = 256, 1024
OVERHEAD_BYTES = GIB // 2
"""Python, torch and the temporaries of a step and of the evaluation's [905, V] tables at V = 70k."""


def model_bytes(options: ModelConfig, vocab_size: int) -> int:
    """What the model's tables take."""
    if isinstance(options, Finite):
        return 8 * vocab_size * options.width
    random_start = options.output_init_scale > 0
    if isinstance(options, MupLimit) and options.engine is Engine.lowrank:
        return lowrank_bytes(vocab_size, rank_of(options, vocab_size), options.pair_table_gib or 0.0)
    if isinstance(options, MupLimit):
        entry_bytes = 2 if options.dtype is Dtype.bfloat16 else 4
        return 2 * entry_bytes * vocab_size**2 * (2 if random_start else 1)
    return 4 * vocab_size**2 * (3 if random_start else 1)


def rank_of(options: MupLimit, vocab_size: int) -> int:
    """Directions that the lowrank engine keeps, with a tolerance at most."""
    return options.rank or min(
        MAX_TOLERANCE_RANK if options.tolerance else DEFAULT_RANK, vocab_size
    )


def check_memory(options: ModelConfig, vocab_size: int, device: torch.device) -> None:
    """Refuse a model, or a rank's share of it, that does not fit. Raises: UserError that says what would."""
    needed, free = _bytes_here(options, vocab_size), free_bytes(device)
    if needed <= free:
        return
    a_rank = " a rank" if distributed.world_size() > 1 else ""
    short = f"{_gib(needed)}{a_rank} for V={vocab_size:,}, {device} has {_gib(free)} free"
    more = _advice_on_cards(options, vocab_size, device, free)
    if isinstance(options, Finite):
        width = max(1, (free - OVERHEAD_BYTES) * distributed.world_size() // (8 * vocab_size))
        raise UserError(
            f"model.width={options.width} needs {short}: {more}model.width={width} fits, or lower corpus.max_vocab"
        )
    if isinstance(options, MupLimit) and options.pair_table_gib:
        given = f"model.pair_table_gib={options.pair_table_gib:g} and the tables of rank {rank_of(options, vocab_size):,} take {short}"
        raise UserError(f"{given}: lower model.pair_table_gib or model.rank, or corpus.max_vocab")
    fitting = _fitting_vocab(options, vocab_size, free)
    advice = (
        f"corpus.max_vocab={fitting} fits, or " if fitting else ""
    ) + "raise corpus.min_count, or use model=finite"
    if isinstance(options, MupLimit) and options.engine is Engine.lowrank:
        rank = (free - OVERHEAD_BYTES - lowrank_bytes(vocab_size, 0, 0.0)) // (
            factors_bytes(vocab_size, 1) - factors_bytes(vocab_size, 0)
        )
        advice = f"model.rank={rank} fits, {advice}" if rank >= 1 else advice
    elif isinstance(options, MupLimit):
        advice = _advice_on_engines(options, vocab_size, device, free) + more + advice
    raise UserError(f"model={options.name} needs {short}: {advice}")


def _bytes_here(options: ModelConfig, vocab_size: int) -> int:
    """What one rank takes."""
    return -(-model_bytes(options, vocab_size) // distributed.world_size()) + OVERHEAD_BYTES


def _advice_on_cards(options: ModelConfig, vocab_size: int, device: torch.device, free: int) -> str:
    """How many cards like this one would do, where columns can be shared out over them."""
    lowrank = isinstance(options, MupLimit) and options.engine is Engine.lowrank
    if (
        device.type == "cpu"
        or lowrank
        or not isinstance(options, Finite | MupLimit)
        or free <= OVERHEAD_BYTES
    ):
        return ""
    cards = -(-model_bytes(options, vocab_size) // (free - OVERHEAD_BYTES))
    return f"torchrun --nproc-per-node={cards} fits on {cards} such cards, "


def _advice_on_engines(options: MupLimit, vocab_size: int, device: torch.device, free: int) -> str:
    """Which other forms of the dense limit would fit."""
    advice = ""
    if _bytes_here(dataclasses.replace(options, dtype=Dtype.bfloat16), vocab_size) <= free:
        advice += "model.dtype=bfloat16 fits, "
    lowrank = model_bytes(MupLimit(engine=Engine.lowrank), vocab_size) + OVERHEAD_BYTES
    if (
        options.output_init_scale == 0
        and distributed.world_size() == 1
        and lowrank <= free_bytes(torch.device("cpu"))
    ):
        advice += f"model.engine=lowrank{'' if device.type == 'cpu' else ' device=cpu'} fits, "
    return advice


def _fitting_vocab(options: ModelConfig, vocab_size: int, free: int) -> int:
    """A vocabulary, in thousands if that many fit, that takes at most `free` bytes; 0 if there is none."""
    fitting = vocab_size
    while fitting and _bytes_here(options, fitting) > free:
        fitting = int(fitting * 0.95)
    return fitting // 1000 * 1000 or fitting


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
