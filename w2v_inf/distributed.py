"""The processes of one job started by torchrun: this one's rank, sums over all, and agreement.

Decisions:
- Every process runs the same program on the same stream of examples, and holds some of the columns.
- Only the main process (rank 0) writes into the run folder. The others write into a temporary
  folder, so no stage asks which process it runs in.
- Processes agree on what only one of them sees (a signal, a clock, a folder) before they act on it.
  Otherwise they would take different paths and wait for each other for ever.
- A process that ends closes its connections. The others then stop in the middle of a collective
  operation, with an error of one line.
- Only our own entry points join a process group, by `process_group`: a group that a caller started
  for its own purposes is not ours.

Without torchrun there is one process, and nothing here does anything.
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

_has_joined = False
"""Whether `process_group` is open. A group that the caller of a library function started is his."""
TIMEOUT = timedelta(hours=1)
"""How long processes wait for one that is alive: the main one may be preparing a corpus."""
T = TypeVar("T")


def is_launched() -> bool:
    """Whether torchrun started this process together with others."""
    return dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes that torchrun started, if any.

    Raises: UserError if they cannot be reached.
    """
    if not is_launched():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _collective("joining"):
        dist.init_process_group(backend, timeout=TIMEOUT)
    global _has_joined
    _has_joined = True
    try:
        yield
    finally:
        _has_joined = False
        dist.destroy_process_group()


@contextmanager
def _collective(doing: str) -> Iterator[None]:
    """Report a lost process in one line. Raises: UserError."""
    try:
        yield
    except RuntimeError as error:
        # gloo puts a line of its source before the reason, and advice after it.
        reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).split(". ")[0]
        raise UserError(
            f"a process of this job has ended or cannot be reached ({doing}: {reason}): see its "
            "messages; the same command resumes from the last checkpoint, with any number of "
            "processes"
        ) from error


def world_size() -> int:
    """Processes of this job; 1 without torchrun."""
    return dist.get_world_size() if _has_joined else 1


def rank() -> int:
    """The number of this process in the job, from 0."""
    return dist.get_rank() if _has_joined else 0


def is_main_process() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def local_rank() -> int:
    """The number of this process on its machine, from 0, which is the number of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if world_size() > 1 else 0


def local_world_size() -> int:
    """Processes on this machine, which share its memory and cores."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if world_size() > 1 else 1


def shard_range(total: int, process: int | None = None) -> range:
    """The items of `total` that belong to this process, or to another: about total / world_size."""
    number = rank() if process is None else process
    return range(number * total // world_size(), (number + 1) * total // world_size())


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum `x` over the processes, in place; all get the same bits."""
    if world_size() > 1:
        with _collective("summing"):
            dist.all_reduce(x)
    return x


def all_reduce_max(*numbers: int) -> list[int]:
    """The maximum of each number over the processes."""
    if world_size() == 1:
        return list(numbers)
    with _collective("agreeing"):
        dist.all_reduce(agreed := torch.tensor(numbers, dtype=torch.int64), dist.ReduceOp.MAX)
    return agreed.tolist()


def broadcast(make: Callable[[], T]) -> T:
    """Call `make` in the main process and return its result in all; the others wait.

    Raises: in all processes, the UserError that it raises.
    """
    if world_size() == 1:
        return make()
    result: list[T | UserError | None] = [None]
    if is_main_process():
        try:
            result = [make()]
        except UserError as error:
            result = [error]
    with _collective("waiting for the main process"):
        dist.broadcast_object_list(result)
    if isinstance(result[0], UserError):
        raise result[0]
    return result[0]  # pyright: ignore[reportReturnType]


def gather_columns(part: Tensor, total: int) -> Tensor:
    """Join the columns `part` [R, shard_range(total)] of all processes.

    Returns: [R, total] on the CPU of the main process, [R, 0] elsewhere.
    """
    widths = [len(shard_range(total, process)) for process in range(world_size())]
    # `gather` wants parts of one size. It gets bytes, because gloo does not know bfloat16.
    padded = torch.nn.functional.pad(part.cpu(), (0, max(widths) - part.shape[1])).contiguous()
    parts = [torch.empty_like(padded) for _ in widths] if is_main_process() else []
    with _collective("gathering"):
        dist.gather(padded.view(torch.uint8), [p.view(torch.uint8) for p in parts] or None)
    if not parts:
        return padded[:, :0]
    return torch.cat([p[:, :width] for p, width in zip(parts, widths, strict=True)], dim=1)


@contextmanager
def folder_to_write(folder: Path) -> Iterator[Path]:
    """`folder` in the main process; in the others a temporary one, deleted after this block."""
    if is_main_process():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="w2v_inf-") as other:
        yield Path(other)
