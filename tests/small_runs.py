"""Small runs for the tests of training, runs and evaluation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from composed import config_of

from w2v_inf.config import Config

WORDS = (
    "paris france berlin germany madrid spain rome italy king queen man woman "
    "chicago illinois houston texas"
).split()


def small_config(root: Path, *overrides: str, run: str = "") -> Config:
    """A run on 3,600 words of text below `root`: 30 different words, 113 steps per CBOW epoch.

    The run folder is `root`/`run`; by default `root`/runs has one per set of options.
    """
    text = root / "toy.txt"
    if not text.exists():
        words = np.array(WORDS + [f"w{i}" for i in range(14)])
        rng = np.random.default_rng(0)
        text.write_text("\n".join(" ".join(rng.choice(words, 60)) for _ in range(60)) + "\n")
    where = [f"corpus.path={text}", f"data_dir={root}/data", f"runs_dir={root}/runs"]
    small = ["stream.subsample_threshold=0", "train.epochs=2", "num_threads=1", "device=cpu"]
    folder = [f"run_dir={root}/{run}"] if run else []
    return config_of("corpus=file", *where, *small, *folder, *overrides)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
