"""CPU or GPU, and how much memory is free there."""

import os
from pathlib import Path

import torch

from w2v_inf import distributed
from w2v_inf.config import Device
from w2v_inf.errors import UserError


def pick_device(device: Device) -> torch.device:
    """`auto` takes CUDA where there is one; each of several ranks its own card. Raises: UserError for device=cuda without a card."""
    if device is Device.cuda and not torch.cuda.is_available():
        raise UserError(
            "device=cuda: torch sees no CUDA device; use device=cpu, or device=auto to take what is there"
        )
    if device is Device.cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    if distributed.local_world_size() > torch.cuda.device_count():
        cards = torch.cuda.device_count()
        raise UserError(
            f"{distributed.local_world_size()} ranks on a machine of {cards} cards: torchrun --nproc-per-node={cards}, or device=cpu"
        )
    if distributed.world_size() == 1:
        return torch.device("cuda")
    torch.cuda.set_device(distributed.local_rank())
    return torch.device("cuda", distributed.local_rank())


def free_bytes(device: torch.device) -> int:
    """Memory that this rank can still take: the card's, or its share of the smaller of the machine's and this control group's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # not Linux: the physical memory is the best guess
        return (
            os.sysconf("SC_PAGE_SIZE")
            * os.sysconf("SC_PHYS_PAGES")
            // distributed.local_world_size()
        )
    available = next(
        int(line.split()[1])
        for line in meminfo.read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    return min(available * 1024, _cgroup_free_bytes()) // distributed.local_world_size()


def _cgroup_free_bytes() -> int:
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if not limit.exists() or limit.read_text().strip() == "max":
        return 2**62
    # Cached files count as used, but the kernel gives them up.
    cached = [
        int(line.split()[1])
        for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()
        if line.startswith("inactive_file")
    ]
    return int(limit.read_text()) - int(used.read_text()) + sum(cached)
