"""Does a change of the code keep every trained bit?

    python benchmarks/same_bits.py [--root CHECKOUT]

Trains each model and engine briefly on `planted`, through scripts/train.py of the checkout, and
prints a checksum of the tensors and one of losses and analogies. Two checkouts that compute the
same print the same lines. Options renamed since version 0.1.0 take their old names in a checkout
without w2v_inf/compose.py.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

SHORT = ["corpus=planted", "train.epochs=1", "seed=3"]
SKIPGRAM = "stream.architecture=skipgram"
LOWRANK = ["model=mup_limit", "model.engine=lowrank"]
RUNS = {
    "width 64": ["model.width=64", "num_threads=1"],
    "width 300, 2 threads": ["model.width=300", "num_threads=2"],
    "sp, skip-gram": [
        *["model.width=33", "model.parametrization=sp"],
        *["train.lr=0.01", SKIPGRAM, "num_threads=1"],
    ],
    "whole gradient, tp4": [
        *["model.width=40", "train.context_gradient=whole"],
        *["train.sigmoid=tp4", "num_threads=1"],
    ],
    "ntp, random output": [
        *["model.width=40", "model.parametrization=ntp"],
        *["model.output_init_scale=1", "num_threads=1"],
    ],
    "muP limit": ["model=mup_limit", "num_threads=1"],
    "muP limit, skip-gram, 2 threads": ["model=mup_limit", SKIPGRAM, "num_threads=2"],
    "muP limit, bfloat16": ["model=mup_limit", "model.dtype=bfloat16", "num_threads=2"],
    "muP limit, random output": ["model=mup_limit", "model.output_init_scale=1", "num_threads=1"],
    "low rank 64": [*LOWRANK, "model.rank=64", "num_threads=1"],
    "low rank 40, skip-gram, 2 threads": [*LOWRANK, "model.rank=40", SKIPGRAM, "num_threads=2"],
    "low rank by a tolerance": [*LOWRANK, "model.tolerance=0.1", "num_threads=2"],
    "NTK limit": ["model=ntk_limit", "num_threads=1"],
    "NTK limit, random output": ["model=ntk_limit", "model.output_init_scale=1", "num_threads=1"],
}


def train(root: Path, folder: Path, options: list[str]) -> None:
    """Train one run of the checkout `root` into `folder`."""
    if not (root / "w2v_inf" / "compose.py").exists():
        options = [option.replace("model.dtype", "model.storage") for option in options]
    where = [f"run_dir={folder}", f"data_dir={folder.parent}/data"]
    subprocess.run(
        [sys.executable, "scripts/train.py", *SHORT, *options, *where],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stderr=subprocess.DEVNULL,
        check=True,
    )


def checksums(folder: Path) -> tuple[str, str]:
    """Of the tensors of a finished run, and of its losses and analogies."""
    tensors = hashlib.sha256()
    for _, tensor in sorted(load_file(folder / "model.safetensors").items()):
        tensors.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "progress"]
    analogy = json.loads((folder / "summary.json").read_text())["evaluation"]["analogy"]
    numbers = json.dumps([losses, analogy], sort_keys=True).encode()
    return tensors.hexdigest()[:16], hashlib.sha256(numbers).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    root = parser.parse_args().root.resolve()
    print(f"{'run':35}{'tensors':18}losses and analogies")
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, options) in enumerate(RUNS.items()):
            folder = Path(scratch) / f"run{number}"
            train(root, folder, options)
            print(f"{name:35}{'  '.join(checksums(folder))}", flush=True)


if __name__ == "__main__":
    main()
