"""The models and the one protocol they answer; the trainer and the evaluation never ask which model they have."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from w2v_inf import ranks
from w2v_inf.config import (
    Config,
    ContextGradient,
    Device,
    Embedding,
    Engine,
    Finite,
    ModelConfig,
    MupLimit,
    Parametrization,
    Sigmoid,
    Storage,
)
from w2v_inf.errors import UserError
from w2v_inf.models.linear import ABC, LinearModel, init_finite, init_mup_limit, limit_width
from w2v_inf.models.lowrank import arena_slots, factors_bytes, init_lowrank, lowrank_bytes
from w2v_inf.models.ntk_limit import init_ntk_limit
from w2v_inf.models.shards import ColumnShard
from w2v_inf.models.step import exact_logit, tp4_logit
from w2v_inf.stream import Batch, Stream

__all__ = ["Model", "build_model", "model_bytes", "check_memory", "pick_device", "LinearModel"]

STORAGE = {Storage.float32: torch.float32, Storage.bfloat16: torch.bfloat16}

GIB = 2**30
USUAL_RANK, MOST_TOLERATED_RANK = 256, 1024
OVERHEAD_BYTES = GIB // 2
"""Python, torch and the temporaries of a step and of the evaluation's [905, V] tables at V = 70k."""


class Model(Protocol):
    """What every model answers. Tensors live on the model's device."""

    def get_ready(self, stream: Stream, interrupted: Callable[[], bool]) -> None:
        """What a model does before the first step on the stream to come, unless it is interrupted; most do nothing."""
        ...

    def update(self, batch: Batch) -> float:
        """One SGD step; returns the loss before it, nats per example."""
        ...

    def update_all(self, batches: Sequence[Batch]) -> list[float]:
        """A step a batch, as `update` one after another; returns the losses."""
        ...

    def gram(self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input) -> Tensor:
        """Inner products of embeddings, [R, C]; all V columns if `columns` is None."""
        ...

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]."""
        ...

    def gram_product(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix of all embeddings times x [V, k], without making it; [V, k]."""
        ...

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Embeddings of some words in coordinates of the model's own, [R, D]: their inner products are `gram`."""
        ...

    def report(self) -> dict[str, float]:
        """What the model knows of its own approximation, for metrics.jsonl; nothing if it makes none."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All tensors by name."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the tensors of `state`."""
        ...


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
    ranks.largest(0)  # nobody allocates before all have looked
    generator = torch.Generator().manual_seed(config.seed)
    scale, columns = options.output_init_scale, ranks.share(width)
    if isinstance(options, Finite):
        custom = options.parametrization is Parametrization.custom
        a1, b1, a2, b2, c = options.exponents if custom else ABC[options.parametrization]
        model = init_finite(vocab_size, width, (a1, b1, a2, b2, c), scale, generator, device=device, columns=columns)
    elif isinstance(options, MupLimit) and options.engine is Engine.lowrank:
        rank = rank_of(options, vocab_size)
        free = max(GIB // 64, free_bytes(device) - OVERHEAD_BYTES - factors_bytes(vocab_size, rank))
        model = init_lowrank(vocab_size, rank, arena_slots(options.memory_gib, vocab_size, free))
        model.tolerance = options.tolerance
    elif isinstance(options, MupLimit):
        model = init_mup_limit(vocab_size, scale, STORAGE[options.storage], device, columns)
    else:
        model = init_ntk_limit(vocab_size, scale, generator, device=device)
    model.weight_decay = config.train.weight_decay
    model.whole_gradient = config.train.context_gradient is ContextGradient.whole
    model.logit = tp4_logit if config.train.sigmoid is Sigmoid.tp4 else exact_logit
    return ColumnShard(model, width) if ranks.count() > 1 and isinstance(model, LinearModel) else model


def _width(options: ModelConfig, vocab_size: int) -> int:
    """Columns of the model's matrices."""
    return options.width if isinstance(options, Finite) else limit_width(vocab_size, options.output_init_scale)


def _check_ranks(options: ModelConfig, width: int) -> None:
    """Raises: UserError for a model that cannot be shared out over the ranks there are."""
    if ranks.count() == 1:
        return
    lowrank = isinstance(options, MupLimit) and options.engine is Engine.lowrank
    if lowrank or not isinstance(options, Finite | MupLimit):
        name = "model.engine=lowrank" if lowrank else f"model={options.name}"
        raise UserError(f"{name} runs in one process, here are {ranks.count()} ranks: start it without torchrun")
    if width < ranks.count():
        raise UserError(f"{width} columns cannot be shared out over {ranks.count()} ranks: lower torchrun's --nproc-per-node")


def _check_engine(options: MupLimit, vocab_size: int, device: torch.device) -> None:
    """Raises: UserError for a rank above V, or an engine that no card runs."""
    if options.rank > vocab_size:
        raise UserError(f"model.rank must be at most V={vocab_size:,}, the words of the vocabulary, got {options.rank:,}")
    if options.engine is Engine.lowrank and device.type != "cpu":
        raise UserError(f"model.engine=lowrank runs on the CPU, device is {device}: add device=cpu")


def pick_device(device: Device) -> torch.device:
    """`auto` takes CUDA where there is one; each of several ranks its own card. Raises: UserError for device=cuda without a card."""
    if device is Device.cuda and not torch.cuda.is_available():
        raise UserError("device=cuda: torch sees no CUDA device; use device=cpu, or device=auto to take what is there")
    if device is Device.cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    if ranks.local_count() > torch.cuda.device_count():
        cards = torch.cuda.device_count()
        raise UserError(f"{ranks.local_count()} ranks on a machine of {cards} cards: torchrun --nproc-per-node={cards}, or device=cpu")
    if ranks.count() == 1:
        return torch.device("cuda")
    torch.cuda.set_device(ranks.local_rank())
    return torch.device("cuda", ranks.local_rank())


def model_bytes(options: ModelConfig, vocab_size: int) -> int:
    """What the model's tables take."""
    if isinstance(options, Finite):
        return 8 * vocab_size * options.width
    random_start = options.output_init_scale > 0
    if isinstance(options, MupLimit) and options.engine is Engine.lowrank:
        return lowrank_bytes(vocab_size, rank_of(options, vocab_size), options.memory_gib)
    if isinstance(options, MupLimit):
        entry_bytes = 2 if options.storage is Storage.bfloat16 else 4
        return 2 * entry_bytes * vocab_size**2 * (2 if random_start else 1)
    return 4 * vocab_size**2 * (3 if random_start else 1)


def rank_of(options: MupLimit, vocab_size: int) -> int:
    """Directions that the lowrank engine keeps, with a tolerance at most."""
    return options.rank or min(MOST_TOLERATED_RANK if options.tolerance else USUAL_RANK, vocab_size)


def check_memory(options: ModelConfig, vocab_size: int, device: torch.device) -> None:
    """Refuse a model, or a rank's share of it, that does not fit. Raises: UserError that says what would."""
    needed, free = _bytes_here(options, vocab_size), free_bytes(device)
    if needed <= free:
        return
    a_rank = " a rank" if ranks.count() > 1 else ""
    short = f"{_gib(needed)}{a_rank} for V={vocab_size:,}, {device} has {_gib(free)} free"
    more = _advice_on_cards(options, vocab_size, device, free)
    if isinstance(options, Finite):
        width = max(1, (free - OVERHEAD_BYTES) * ranks.count() // (8 * vocab_size))
        raise UserError(f"model.width={options.width} needs {short}: {more}model.width={width} fits, or lower corpus.max_vocab")
    if isinstance(options, MupLimit) and options.memory_gib:
        given = f"model.memory_gib={options.memory_gib:g} and the tables of rank {rank_of(options, vocab_size):,} take {short}"
        raise UserError(f"{given}: lower model.memory_gib or model.rank, or corpus.max_vocab")
    fitting = _fitting_vocab(options, vocab_size, free)
    advice = (f"corpus.max_vocab={fitting} fits, or " if fitting else "") + "raise corpus.min_count, or use model=finite"
    if isinstance(options, MupLimit) and options.engine is Engine.lowrank:
        rank = (free - OVERHEAD_BYTES - lowrank_bytes(vocab_size, 0, 0.0)) // (factors_bytes(vocab_size, 1) - factors_bytes(vocab_size, 0))
        advice = f"model.rank={rank} fits, {advice}" if rank >= 1 else advice
    elif isinstance(options, MupLimit):
        advice = _advice_on_engines(options, vocab_size, device, free) + more + advice
    raise UserError(f"model={options.name} needs {short}: {advice}")


def _bytes_here(options: ModelConfig, vocab_size: int) -> int:
    """What one rank takes."""
    return -(-model_bytes(options, vocab_size) // ranks.count()) + OVERHEAD_BYTES


def _advice_on_cards(options: ModelConfig, vocab_size: int, device: torch.device, free: int) -> str:
    """How many cards like this one would do, where columns can be shared out over them."""
    lowrank = isinstance(options, MupLimit) and options.engine is Engine.lowrank
    if device.type == "cpu" or lowrank or not isinstance(options, Finite | MupLimit) or free <= OVERHEAD_BYTES:
        return ""
    cards = -(-model_bytes(options, vocab_size) // (free - OVERHEAD_BYTES))
    return f"torchrun --nproc-per-node={cards} fits on {cards} such cards, "


def _advice_on_engines(options: MupLimit, vocab_size: int, device: torch.device, free: int) -> str:
    """Which other forms of the dense limit would fit."""
    advice = ""
    if _bytes_here(dataclasses.replace(options, storage=Storage.bfloat16), vocab_size) <= free:
        advice += "model.storage=bfloat16 fits, "
    lowrank = model_bytes(MupLimit(engine=Engine.lowrank), vocab_size) + OVERHEAD_BYTES
    if options.output_init_scale == 0 and ranks.count() == 1 and lowrank <= free_bytes(torch.device("cpu")):
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


def free_bytes(device: torch.device) -> int:
    """Memory that this rank can still take: the card's, or its share of the smaller of the machine's and this control group's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # not Linux: the physical memory is the best guess
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks.local_count()
    available = next(int(line.split()[1]) for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    return min(available * 1024, _cgroup_free_bytes()) // ranks.local_count()


def _cgroup_free_bytes() -> int:
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if not limit.exists() or limit.read_text().strip() == "max":
        return 2**62
    # Cached files count as used, but the kernel gives them up.
    cached = [
        int(line.split()[1]) for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines() if line.startswith("inactive_file")
    ]
    return int(limit.read_text()) - int(used.read_text()) + sum(cached)
