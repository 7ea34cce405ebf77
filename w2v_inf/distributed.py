"""The processes of one job (torchrun): who this one is, what they add up, and what they agree on.

Decisions:
- Every rank runs the same program on the same stream of examples and holds some of the columns. The first alone writes into the
  run folder; what the others write goes into a folder that is thrown away, so that no stage asks who it is.
- What one rank sees alone (a signal, a clock, a folder) is agreed on before anybody acts on it: ranks that take different turns
  would wait for each other for ever.
- A rank that ends closes its connections; the others then stop in the middle of what they add up, with an error of one line.

Without torchrun there is one rank, and nothing here does anything.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from w2v_inf.errors import UserError

TIMEOUT = timedelta(hours=1)
"""How long ranks wait for one that is alive: the first may be preparing a corpus."""
T = TypeVar("T")


def are_started() -> bool:
    """Whether torchrun started this process beside others."""
    return dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def joined() -> Iterator[None]:
    """Join the other ranks that torchrun started, if it did. Raises: UserError if they cannot be reached."""
    if not are_started():
        yield
        return
    with _together("joining"):
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT
        )
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _together(doing: str) -> Iterator[None]:
    """Turn what a lost rank does to the others into one line."""
    try:
        yield
    except RuntimeError as error:
        # gloo begins with a line of its source and goes on with advice.
        reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).split(". ")[0]
        raise UserError(
            f"a rank of this job has ended or cannot be reached ({doing}: {reason}): see what it said; "
            "the same command goes on from the last checkpoint, also over another number of ranks"
        ) from error


def world_size() -> int:
    """Ranks of this job; 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this process is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this is the rank that writes."""
    return rank() == 0


def local_rank() -> int:
    """Which of this machine's ranks this is: the card that it takes."""
    return int(os.environ["LOCAL_RANK"]) if world_size() > 1 else 0


def local_world_size() -> int:
    """Ranks on this machine, which share its memory and its cores."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if world_size() > 1 else 1


def shard_range(total: int, of_rank: int | None = None) -> range:
    """Which of `total` things are this rank's, or another's: a stretch of about total / ranks."""
    which = rank() if of_rank is None else of_rank
    return range(which * total // world_size(), (which + 1) * total // world_size())


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum `x` over the ranks, in place: every rank gets the same bits."""
    if world_size() > 1:
        with _together("adding up"):
            dist.all_reduce(x)
    return x


def all_reduce_max(*numbers: int) -> list[int]:
    """The largest of each number over the ranks."""
    if world_size() == 1:
        return list(numbers)
    with _together("agreeing"):
        dist.all_reduce(agreed := torch.tensor(numbers, dtype=torch.int64), dist.ReduceOp.MAX)
    return agreed.tolist()


def broadcast(make: Callable[[], T]) -> T:
    """What `make` returns on the first rank, on all; the others wait. Raises: on all what it raises there, if that is a UserError."""
    if world_size() == 1:
        return make()
    said: list[T | UserError | None] = [None]
    if is_main_process():
        try:
            said = [make()]
        except UserError as error:
            said = [error]
    with _together("waiting for the first rank"):
        dist.broadcast_object_list(said)
    if isinstance(said[0], UserError):
        raise said[0]
    return said[0]  # pyright: ignore[reportReturnType]


def gather_columns(part: Tensor, total: int) -> Tensor:
    """Put the ranks' columns `part` [R, shard_range(total)] beside each other; [R, total] on the CPU of the first rank, [R, 0] elsewhere."""
    most = max(len(shard_range(total, r)) for r in range(world_size()))
    # Gathered are parts of one size, and bytes: gloo knows no bfloat16.
    padded = torch.nn.functional.pad(part.cpu(), (0, most - part.shape[1])).contiguous()
    parts = [torch.empty_like(padded) for _ in range(world_size())] if is_main_process() else []
    with _together("gathering"):
        dist.gather(padded.view(torch.uint8), [p.view(torch.uint8) for p in parts] or None)
    return (
        torch.cat([p[:, : len(shard_range(total, r))] for r, p in enumerate(parts)], dim=1)
        if parts
        else padded[:, :0]
    )


@contextmanager
def folder_to_write(folder: Path) -> Iterator[Path]:
    """`folder` on the first rank, elsewhere one that goes with this block."""
    if is_main_process():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="w2v_inf-") as other:
        yield Path(other)
