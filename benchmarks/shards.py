"""What does sharing out the columns over processes cost, beside threads in one?

Trains the exact limit on the sample corpus (V = 4,000, one epoch) in one process with one thread and with two, and over two ranks of one
thread each, in alternation. Prints wall and CPU seconds and memory of all processes, median and range.
Checked: the loss is the same to rounding.
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
WAYS = {"one thread": (1, 1), "two threads": (1, 2), "two ranks": (2, 1)}
"""Ranks, and threads of each."""


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
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(args.repeats):
            for name, (num_processes, num_threads) in WAYS.items():
                found[name].append(
                    run(
                        num_processes,
                        num_threads,
                        args.max_vocab,
                        Path(scratch) / f"{name}-{repeat}".replace(" ", "-"),
                    )
                )
    losses = [summary["loss_nats"] for runs in found.values() for summary in runs]
    assert max(losses) - min(losses) < 1e-4, losses
    for name, runs in found.items():
        print(
            f"{name:12} {spread(runs, 'wall_s')} s wall  {spread(runs, 'cpu_s')} CPU s  {spread(runs, 'peak_rss_bytes', 2**30)} GiB"
        )
    if args.json:
        args.json.write_text(json.dumps({"machine": describe(), "runs": found}, indent=1) + "\n")


def spread(runs: list[dict[str, Any]], key: str, unit: float = 1.0) -> str:
    """Median, and smallest to largest."""
    values = sorted(summary[key] / unit for summary in runs)
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


if __name__ == "__main__":
    main()
