"""The machine and the versions that made a run, and the memory that the run takes."""

import importlib.metadata
import importlib.util
import logging
import platform
import re
import resource
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from w2v_inf.config import IS_CHECKOUT, PROJECT_ROOT, Config
from w2v_inf.models.cpu import threads

log = logging.getLogger(__name__)


def reset_peak_rss() -> None:
    """Forget the peak so far: a sweep trains many runs in one process.

    Only Linux can; elsewhere the peak stays that of the process.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        log.debug("peak memory cannot be reset here")


def rss_bytes() -> int:
    """Resident memory of this process now."""
    return psutil.Process().memory_info().rss


def peak_rss_bytes() -> int:
    """The largest resident memory of this process since `reset_peak_rss`."""
    # Not getrusage on Linux: it includes the memory of the parent process.
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s*(\d+)", status.read_text()) if status.exists() else None
    if peak:
        return int(peak[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def environment(config: Config, device: torch.device, corpus_checksum: str) -> dict[str, Any]:
    """The content of environment.json."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": f"{_cpu_name()} x {psutil.cpu_count()}",
        "num_threads": threads.size(),  # those that train: torch may have another number
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda,
        "triton": _version("triton"),
        "corpus_checksum": corpus_checksum,
        "seed": config.seed,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _version(package: str) -> str | None:
    """The version of an optional package, if it is installed."""
    return importlib.metadata.version(package) if importlib.util.find_spec(package) else None


def _git(*arguments: str) -> str:
    """git's answer about the project; empty outside a checkout."""
    if not IS_CHECKOUT:  # the current folder may be a repository of the user's
        return ""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _cpu_name() -> str:
    """The CPU's model; psutil does not know it."""
    cpuinfo = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return name[1] if name else platform.processor()
