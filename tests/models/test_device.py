"""The device picked, and the memory and cores found under fake control groups."""

import os
import resource
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from w2v_inf import distributed
from w2v_inf.config import Device
from w2v_inf.errors import UserError
from w2v_inf.models.device import free_bytes, pick_device, usable_cores

GIB = 2**30
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 cores and 64 GiB free, of which control groups leave less."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GIB))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def fake_root(root: Path, groups: str, mounts: list[str], files: dict[str, str]) -> Path:
    """A file system with control groups; `mounts`: mountinfo's root, mount point, type, options."""
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    files["proc/self/cgroup"] = groups
    files["proc/self/mountinfo"] = "22 1 0:20 / /proc rw shared:1 - proc proc rw\n"
    for mount in mounts:
        visible, point, kind, options = mount.split()
        files["proc/self/mountinfo"] += (
            f"30 22 0:26 {visible} {point} rw - {kind} {kind} {options}\n"
        )
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def memory_v2(folder: str, limit: int | str, used: int, cached: int = 0) -> dict[str, str]:
    return {
        f"{folder}memory.max": f"{limit}\n",
        f"{folder}memory.current": f"{used}\n",
        f"{folder}memory.stat": f"anon {used - cached}\ninactive_file {cached}\n",
    }


V2 = ["/ /sys/fs/cgroup cgroup2 rw,nsdelegate"]


def test_no_control_groups(tmp_path: Path) -> None:
    assert free_bytes(CPU, tmp_path) == 64 * GIB
    assert usable_cores(tmp_path) == 16


def test_version_2_in_a_container(tmp_path: Path) -> None:
    """The container's group is the mounted root; cached files count as free."""
    files = memory_v2("", 8 * GIB, 3 * GIB, cached=GIB) | {"cpu.max": "250000 100000\n"}
    root = fake_root(tmp_path, "0::/\n", V2, files)
    assert free_bytes(CPU, root) == 6 * GIB
    assert usable_cores(root) == 2


@pytest.mark.parametrize("limited", ["job/step/", "job/"])
def test_nested_version_2(limited: str, tmp_path: Path) -> None:
    """Slurm and systemd: the limit stands in the process's own group or in an ancestor."""
    files = {}
    for folder in ("job/step/", "job/"):
        is_limited = folder == limited
        files |= memory_v2(folder, 5 * GIB if is_limited else "max", 2 * GIB)
        files[f"{folder}cpu.max"] = "400000 100000\n" if is_limited else "max 100000\n"
    root = fake_root(tmp_path, "0::/job/step\n", V2, files)
    assert free_bytes(CPU, root) == 3 * GIB
    assert usable_cores(root) == 4


def test_the_tightest_limit_counts(tmp_path: Path) -> None:
    files = memory_v2("job/", 4 * GIB, GIB) | memory_v2("job/step/", 2 * GIB, GIB)
    files |= {"job/cpu.max": "300000 100000", "job/step/cpu.max": "50000 100000"}
    root = fake_root(tmp_path, "0::/job/step\n", V2, files)
    assert free_bytes(CPU, root) == GIB
    assert usable_cores(root) == 1


def test_used_up(tmp_path: Path) -> None:
    root = fake_root(tmp_path, "0::/\n", V2, memory_v2("", GIB, 2 * GIB))
    assert free_bytes(CPU, root) == 0


V1 = [
    "/ /sys/fs/cgroup/memory cgroup rw,memory",
    "/ /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct",
]
V1_MEMORY = {
    "memory.limit_in_bytes": str(6 * GIB),
    "memory.usage_in_bytes": str(4 * GIB),
    "memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB}\n",
}
V1_CPU = {"cpu.cfs_quota_us": "350000\n", "cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize("folder", ["job/", ""])
def test_version_1(folder: str, tmp_path: Path) -> None:
    """Controllers are mounted apart; the largest number of pages stands for no limit."""
    files = {f"memory/{folder}{name}": text for name, text in V1_MEMORY.items()}
    files |= {f"cpu,cpuacct/{folder}{name}": text for name, text in V1_CPU.items()}
    files |= {
        "memory/job/step/memory.limit_in_bytes": "9223372036854771712",
        "memory/job/step/memory.usage_in_bytes": str(GIB),
        "cpu,cpuacct/job/step/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/job/step/cpu.cfs_period_us": "100000",
    }
    groups = "4:memory:/job/step\n1:cpu,cpuacct:/job/step\n0::/\n"
    root = fake_root(tmp_path, groups, V1, files)
    assert free_bytes(CPU, root) == 3 * GIB
    assert usable_cores(root) == 3


def test_a_group_named_by_its_path_on_the_host(tmp_path: Path) -> None:
    """Docker with version 1: the path is the host's, and the mount shows the part from there on."""
    files = {f"memory/{name}": text for name, text in V1_MEMORY.items()}
    mounts = ["/docker/0f3a /sys/fs/cgroup/memory cgroup rw,memory"]
    root = fake_root(tmp_path, "4:memory:/docker/0f3a\n", mounts, files)
    assert free_bytes(CPU, root) == 3 * GIB
    root = fake_root(tmp_path, "4:memory:/docker/0f3a/inside\n", mounts, files)
    assert free_bytes(CPU, root) == 3 * GIB
    root = fake_root(tmp_path, "4:memory:/../elsewhere\n", mounts, files)
    assert free_bytes(CPU, root) == 3 * GIB


def test_processes_share_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "local_world_size", lambda: 4)
    assert free_bytes(CPU, tmp_path) == 16 * GIB


def test_this_machine() -> None:
    assert 0 <= free_bytes(CPU) <= 64 * GIB
    assert 1 <= usable_cores() <= 16


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_devices_without_a_gpu() -> None:
    assert pick_device(Device.auto) == pick_device(Device.cpu) == CPU
    with pytest.raises(UserError, match="device=cuda: torch finds no CUDA GPU; use device=cpu"):
        pick_device(Device.cuda)


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert pick_device(Device.auto) == torch.device("cuda") and not taken
    for name, value in (("world_size", 2), ("local_world_size", 2), ("local_rank", 1)):
        monkeypatch.setattr(distributed, name, lambda value=value: value)
    assert pick_device(Device.cuda) == torch.device("cuda", 1) and taken == [1]
    assert pick_device(Device.cpu) == CPU
    monkeypatch.setattr(distributed, "local_world_size", lambda: 3)
    with pytest.raises(UserError, match="3 processes on a machine with 2 GPUs: use torchrun"):
        pick_device(Device.auto)


def test_the_limit_of_the_shell_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """ulimit -v, which nothing else shows before an allocation fails."""
    used = psutil.Process().memory_info().vms
    limits = (used + 2**20, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    assert 0 <= free_bytes(torch.device("cpu")) <= 2**21
