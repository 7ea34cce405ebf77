"""Does a run that is killed at any moment and resumed end with the same bits as an undisturbed one?

First every model, dtype and architecture is trained once without interruption. Then one of them is
started, killed (SIGKILL) after a random time and started again, up to --kills kills in all. The
bytes of model.safetensors, all losses and evaluations of metrics.jsonl and the final evaluation
must be equal. Checkpoints are written all the time, so that many kills hit a half-written one. This
is a test, not a timing.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from w2v_inf.api import compose_config
from w2v_inf.config import Config
from w2v_inf.runs.folder import Summary
from w2v_inf.training import checkpoint
from w2v_inf.training import train as train_stage

MODELS = {
    "width 16": ["model=finite", "model.width=16"],
    "muP limit": ["model=mup_limit"],
    "muP limit, bfloat16": ["model=mup_limit", "model.dtype=bfloat16"],
    "muP limit, random output initialisation": ["model=mup_limit", "model.output_init_scale=0.5"],
    "muP limit, low rank": ["model=mup_limit", "model.engine=lowrank", "model.rank=8"],
    "NTK limit": ["model=ntk_limit"],
}
SMALL = [
    "corpus.max_vocab=200",
    "corpus=sample",
    "train.epochs=2",
    "num_threads=1",
    "device=cpu",
    "train.lr=0.01",
]
TIMES = ("elapsed_s", "words_per_s", "rss_bytes")


def config_of(folder: Path, *overrides: str) -> Config:
    return compose_config(*SMALL, *overrides, f"run_dir={folder}")


def start(config: Config) -> int:
    """Train in a forked process, which imports and compiles nothing again; returns its id."""
    pid = os.fork()
    if pid == 0:
        try:
            train_stage.train(config)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def outcome(folder: Path) -> dict[str, Any]:
    """Everything in a finished run but its times."""
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = Summary.load(folder)
    return {
        "model": (folder / "model.safetensors").read_bytes(),
        "places": (folder / "places.npz").read_bytes(),
        "metrics": [
            {key: value for key, value in line.items() if key not in TIMES} for line in metrics
        ],
        "summary": {
            name: getattr(summary, name)
            for name in ("evaluation", "loss_nats", "steps", "examples")
        },
        "left": sorted(path.name for path in folder.iterdir()),
    }


def hit_by_kills(
    config: Config,
    folder: Path,
    lasts_s: float,
    rng: random.Random,
    kills: int,
    moments: Counter[str],
) -> int:
    """Run to the end with at most `kills` kills at random times; returns the number that hit."""
    hits = 0
    while True:
        pid = start(config)
        if hits < kills:
            time.sleep(rng.uniform(0.02, lasts_s))
        ended, status = os.waitpid(pid, os.WNOHANG if hits < kills else 0)
        if ended:
            if status:
                sys.exit(f"{folder}: a run failed")
            return hits
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        hits += 1
        half_written = any(folder.glob(".[0-9]*-checkpoint-*")) or any(folder.glob(".tmp*"))
        whole = any(folder.glob("checkpoint-*.json"))
        moments[
            "while a checkpoint was written"
            if half_written
            else "between checkpoints"
            if whole
            else "before the first checkpoint"
        ] += 1
        if (folder / "summary.json").exists():
            moments["after the summary"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    checkpoint.MIN_INTERVAL_S, checkpoint.SHARE, train_stage.BATCHES_AT_ONCE = 0.0, 1e9, 64
    rng, moments = random.Random(args.seed), Counter[str]()

    with tempfile.TemporaryDirectory() as root:
        cases = [(name, architecture) for architecture in ("cbow", "skipgram") for name in MODELS]
        overrides = {case: [*MODELS[case[0]], f"stream.architecture={case[1]}"] for case in cases}
        expected, lasts_s = {}, {}
        for number, case in enumerate(cases):
            folder = Path(root) / f"expected-{number}"
            # In this process, so that forked ones find everything compiled.
            train_stage.train(config_of(folder, *overrides[case]))
            began = time.monotonic()
            again = Path(root) / f"timed-{number}"
            os.waitpid(start(config_of(again, *overrides[case])), 0)
            expected[case], lasts_s[case] = outcome(folder), time.monotonic() - began
            assert outcome(again) == expected[case], "two uninterrupted runs must agree"

        runs, same, kills = Counter[str](), Counter[str](), 0
        while kills < args.kills:
            case = cases[sum(runs.values()) % len(cases)]
            folder = Path(root) / f"run-{sum(runs.values())}"
            label = f"{case[0]}, {case[1]}"
            limit = min(rng.randint(1, 3), args.kills - kills)
            kills += hit_by_kills(
                config_of(folder, *overrides[case]), folder, lasts_s[case], rng, limit, moments
            )
            runs[label] += 1
            result = outcome(folder)
            different = [part for part, value in expected[case].items() if result[part] != value]
            same[label] += not different
            if different:
                print(
                    f"{label}: {', '.join(different)} differ; left: {' '.join(result['left'])}",
                    flush=True,
                )
                for one, other in zip(result["metrics"], expected[case]["metrics"], strict=False):
                    if one != other:
                        print(
                            f"  first line of metrics that differs: {one} instead of {other}",
                            flush=True,
                        )
                        break

    for label, number in runs.items():
        print(f"{label:45} {same[label]} of {number} runs with the same bits")
    print(
        f"{kills} kills in {sum(runs.values())} runs: "
        + ", ".join(f"{number} {when}" for when, number in moments.items())
    )
    if args.json:
        result = {"kills": kills, "when": moments, "runs": runs, "same": same}
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if same != runs:
        sys.exit("not all runs came out the same")


if __name__ == "__main__":
    main()
