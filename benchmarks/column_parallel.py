"""What does splitting the columns over processes cost, compared with threads in one process?

Trains the exact limit on the sample corpus (V = 4,000, one epoch) in one process with one and two
threads, and in two processes with one thread each, in alternation. Prints wall and CPU seconds and
the memory of all processes, median and range. Checks that the losses agree to rounding.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe

from w2v_inf.config import PROJECT_ROOT

TRAIN = [
    str(PROJECT_ROOT / "scripts" / "train.py"),
    "corpus=sample",
    "model=mup_limit",
    "train.epochs=1",
    "device=cpu",
]
CASES = {"one thread": (1, 1), "two threads": (1, 2), "two processes": (2, 1)}
"""Processes, and threads of each."""


def run(num_processes: int, num_threads: int, vocab_size: int, folder: Path) -> dict[str, Any]:
    """Summary of one run."""
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
        if num_processes > 1
        else []
    )
    options = [f"corpus.max_vocab={vocab_size}", f"num_threads={num_threads}", f"run_dir={folder}"]
    subprocess.run([sys.executable, *launcher, *TRAIN, *options], check=True, capture_output=True)
    return json.loads((folder / "summary.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--max-vocab", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(args.repeats):
            for name, (num_processes, num_threads) in CASES.items():
                folder = Path(scratch) / f"{name}-{repeat}".replace(" ", "-")
                found[name].append(run(num_processes, num_threads, args.max_vocab, folder))
    losses = [summary["loss_nats"] for runs in found.values() for summary in runs]
    assert max(losses) - min(losses) < 1e-4, losses
    for name, runs in found.items():
        memory = median_range(runs, "peak_rss_bytes", 2**30)
        wall, cpu = (median_range(runs, key) for key in ("wall_s", "cpu_s"))
        print(f"{name:14} {wall} s wall  {cpu} CPU s  {memory} GiB")
    if args.json:
        args.json.write_text(json.dumps({"machine": describe(), "runs": found}, indent=1) + "\n")


def median_range(runs: list[dict[str, Any]], key: str, unit: float = 1.0) -> str:
    """Median, and smallest to largest."""
    values = sorted(summary[key] / unit for summary in runs)
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


if __name__ == "__main__":
    main()
