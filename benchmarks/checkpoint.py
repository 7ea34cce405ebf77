"""What do checkpoints cost? Seconds to save and to load one, by size, and their share of a run.

The run is the exact limit on the sample corpus (or --text). Its checkpoints are as frequent as
`checkpoint.SHARE` allows; the minimum interval of a minute is off. The loaded tensors are checked
against the saved ones.
"""

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from w2v_inf.api import compose_config
from w2v_inf.config import PROJECT_ROOT, Config
from w2v_inf.models.linear import init_mup_limit
from w2v_inf.runs.folder import Summary
from w2v_inf.training import checkpoint
from w2v_inf.training import train as train_stage


def time_one(vocab_size: int, folder: Path) -> dict[str, float]:
    """Save and load one checkpoint of the exact limit."""
    metrics = folder / "metrics.jsonl"
    metrics.write_text("")
    model, other = init_mup_limit(vocab_size, 0.0), init_mup_limit(vocab_size, 0.0)
    model.w.normal_(generator=torch.Generator().manual_seed(0))
    start = time.monotonic()
    checkpoint.save(folder, model, {"steps": 1}, metrics, {})
    saved = time.monotonic()
    found = checkpoint.load_newest(folder, metrics)
    assert found is not None
    other.load(found.tensors)
    result = {
        "gib": checkpoint.num_bytes(model.state()) / 2**30,
        "save_s": saved - start,
        "load_s": time.monotonic() - saved,
    }
    assert torch.equal(model.u, other.u) and torch.equal(model.w, other.w)
    checkpoint.remove_all(folder)
    return result


def share_of_run(config: Config) -> dict[str, Any]:
    """Train, and time each checkpoint."""
    spent: list[float] = []
    save = checkpoint.CheckpointManager.save

    def timed(self: checkpoint.CheckpointManager, train_state: dict[str, Any]) -> Path | None:
        start = time.monotonic()
        path = save(self, train_state)
        spent.append(time.monotonic() - start)
        return path

    checkpoint.CheckpointManager.save = timed
    folder = train_stage.train(config)
    wall_s = Summary.load(folder).wall_s
    return {
        "checkpoints": len(spent),
        "seconds": sum(spent),
        "wall_s": wall_s,
        "percent": 100 * sum(spent) / wall_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--text", help="a text file, one document a line; default: the sample corpus"
    )
    parser.add_argument("--vocab", type=int, nargs="+", default=[1000, 4000, 8000])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    checkpoint.MIN_INTERVAL_S = 0.0
    with tempfile.TemporaryDirectory(dir=PROJECT_ROOT) as root:  # not in /tmp, which may be memory
        sizes = {vocab_size: time_one(vocab_size, Path(root)) for vocab_size in args.vocab}
        corpus = ["corpus=file", f"corpus.path={args.text}"] if args.text else ["corpus=sample"]
        small = [
            "model=mup_limit",
            "corpus.max_vocab=4000",
            "train.epochs=8",
            "num_threads=1",
            f"run_dir={root}/run",
        ]
        run = share_of_run(compose_config(*corpus, *small))
    for vocab_size, row in sizes.items():
        interval_min = max(60.0, row["save_s"] / checkpoint.SHARE) / 60
        times = f"saved in {row['save_s']:.2f} s, loaded in {row['load_s']:.2f} s"
        size = f"V={vocab_size:,} ({row['gib']:.2f} GiB)"
        print(f"{size}: {times}, {interval_min:.1f} minutes apart")
    share = f"{run['seconds']:.2f} of {run['wall_s']:.1f} s, {run['percent']:.2f} %"
    print(f"run: {run['checkpoints']} checkpoints in {share}")
    if args.json:
        args.json.write_text(json.dumps({"sizes": sizes, "run": run}, indent=1) + "\n")


if __name__ == "__main__":
    main()
