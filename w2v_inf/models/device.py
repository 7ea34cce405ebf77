"""CPU or GPU; and the memory and cores that this process may use.

Decisions:
- Containers, Slurm and systemd limit memory and CPU time by control groups (cgroups) of version 1
  or 2. A process obeys its own group and every ancestor, so the tightest of these limits counts.
- Groups are looked up in /proc/self/cgroup and /proc/self/mountinfo. Inside a container the first
  may name a path of the host, and the second says which part of it is visible.
- Other systems than Linux have no such files and no such limits.
"""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from w2v_inf import distributed
from w2v_inf.config import Device
from w2v_inf.errors import UserError

ROOT = Path("/")
MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use, and the entry of memory.stat for cached files: of cgroup version 2 and 1."""


def pick_device(device: Device) -> torch.device:
    """The device to train on: `auto` takes a GPU if there is one, and each process takes its own.

    Raises: UserError for device=cuda without a GPU, or more processes than GPUs on this machine.
    """
    if device is Device.cuda and not torch.cuda.is_available():
        raise UserError(
            "device=cuda: torch finds no CUDA GPU; use device=cpu, or device=auto to use one if "
            "there is one"
        )
    if device is Device.cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    num_processes, num_gpus = distributed.local_world_size(), torch.cuda.device_count()
    if num_processes > num_gpus:
        raise UserError(
            f"{num_processes} processes on a machine with {num_gpus} GPUs: use "
            f"torchrun --nproc-per-node={num_gpus}, or device=cpu"
        )
    if distributed.world_size() == 1:
        return torch.device("cuda")
    torch.cuda.set_device(distributed.local_rank())
    return torch.device("cuda", distributed.local_rank())


def free_bytes(device: torch.device, root: Path = ROOT) -> int:
    """Memory that this process can still allocate on `device`.

    On the CPU, the processes of a machine share what is free there and in their control groups.
    root: the file system that holds /proc and /sys, for tests.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = min([psutil.virtual_memory().available, *_free_in_groups(root), *_free_in_limits()])
    return max(0, free) // distributed.local_world_size()


def usable_cores(root: Path = ROOT) -> int:
    """CPU cores that this process may keep busy: its CPU affinity, or less by a CPU time quota.

    A quota of 2.5 cores counts as 2: a throttled thread would keep the others waiting at barriers.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, int(min([cores, *_core_quotas(root)])))


def _free_in_limits() -> Iterator[int]:
    """Bytes left under `ulimit -v`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms


def _free_in_groups(root: Path) -> Iterator[int]:
    """Bytes left under each memory limit. Cached files count as free: the kernel drops them."""
    for group in _control_groups("memory", root):
        for limit_file, used_file, cached in MEMORY_FILES:
            limit, used = _numbers(group / limit_file), _numbers(group / used_file)
            if limit and used:
                stat = dict(line.split() for line in _lines(group / "memory.stat"))
                yield limit[0] - used[0] + int(stat.get(cached, 0))


def _core_quotas(root: Path) -> Iterator[float]:
    """CPU time per wall time under each quota."""
    for group in _control_groups("cpu", root):
        version_1 = _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us")
        for numbers in (_numbers(group / "cpu.max"), version_1):
            if len(numbers) == 2 and numbers[0] > 0:
                yield numbers[0] / numbers[1]


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of this process's control group and its ancestors, wherever they are mounted."""
    groups = {}  # controller, or "" for version 2 -> path
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), path)
    for line in _lines(root / "proc/self/mountinfo"):
        (*_, visible, mount, _), (kind, _, options) = (
            part.split()[:n] for part, n in zip(line.split(" - "), (6, 3), strict=True)
        )
        is_version_2 = kind == "cgroup2"
        if not is_version_2 and (kind != "cgroup" or controller not in options.split(",")):
            continue
        top, path = root / mount.lstrip("/"), groups.get("" if is_version_2 else controller, "/")
        inside = Path(path).is_relative_to(visible) and ".." not in path
        group = top / Path(path).relative_to(visible) if inside else top
        yield group
        yield from (parent for parent in group.parents if parent.is_relative_to(top))


def _numbers(file: Path) -> list[int]:
    """The numbers in a file; none if there is no limit ("max") or no such file."""
    words = [word for line in _lines(file) for word in line.split()]
    return [] if "max" in words else [int(word) for word in words]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
