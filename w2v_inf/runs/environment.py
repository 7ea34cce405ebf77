"""Where and with what a run was made, and the memory that it takes."""

import importlib.metadata
import importlib.util
import logging
import platform
import re
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from w2v_inf.config import IS_CHECKOUT, PROJECT_ROOT, Config

log = logging.getLogger(__name__)


def reset_peak_rss() -> None:
    """Let the peak start anew: a sweep trains many runs in one process. Linux only; elsewhere the peak is the process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        log.debug("peak memory cannot be reset here")


def rss_bytes(peak: bool = False) -> int:
    """Resident memory of this process now, or its largest since `reset_peak_rss`."""
    status = Path("/proc/self/status")
    if status.exists():
        field = "VmHWM" if peak else "VmRSS"
        return (
            next(
                int(line.split()[1])
                for line in status.read_text().splitlines()
                if line.startswith(field)
            )
            * 1024
        )
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def environment(config: Config, device: torch.device, corpus_checksum: str) -> dict[str, Any]:
    """Where and with what a run was made."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "num_threads": torch.get_num_threads(),
        "device": str(device),
        "card": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda,
        "triton": _version("triton"),
        "corpus_checksum": corpus_checksum,
        "seed": config.seed,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _version(package: str) -> str | None:
    """Of an optional package, if it is installed."""
    return importlib.metadata.version(package) if importlib.util.find_spec(package) else None


def _git(*arguments: str) -> str:
    """git's answer about the project, or nothing outside a checkout."""
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
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return f"{names[0]} x {len(names)}" if names else platform.processor()
