"""What does a position cost, by columns and architecture? The constants with which `reproduce` plans (COST_US).

Times steps of the update on the first positions of the sample corpus (or --text), one thread, and fits
microseconds = constant + slope x columns. Checked first: a step of the timed code equals the slow twin's.
"""

import argparse
import json
import statistics
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from w2v_inf.config import Architecture, Config, Parametrization, Sample, StreamConfig, TextFile
from w2v_inf.corpus.load import open_corpus, select_vocabulary
from w2v_inf.corpus.prepare import prepare
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel, init_finite
from w2v_inf.models.parametrization import ABC
from w2v_inf.reference import updates as reference
from w2v_inf.stream import Batch, Stream

COLUMNS = (64, 256, 1024, 4096)


def model_of(vocab_size: int, columns: int, dtype: torch.dtype = torch.float32) -> LinearModel:
    generator = torch.Generator().manual_seed(0)
    return init_finite(vocab_size, columns, ABC[Parametrization.mup], 0.0, generator, dtype)


def check(vocab_size: int, batch: Batch) -> None:
    model = model_of(vocab_size, 3, torch.float64)
    u, w = model.u.numpy().copy(), model.w.numpy().copy()
    arrays = [getattr(batch, name) for name in ("context", "target", "negatives", "negatives_row")]
    u, w, loss = reference.linear_update(u, w, *arrays, batch.negative_weight, batch.lr, 0.0)
    assert abs(model.update(batch) - loss) < 1e-9 * loss
    np.testing.assert_allclose(model.u, u, atol=1e-12)
    np.testing.assert_allclose(model.w, w, atol=1e-12)


def microseconds_a_position(
    model: LinearModel, batches: list[Batch], positions: int, repeats: int
) -> float:
    """Median over repeats, CPU time of this thread."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        model.train_batches(batches)
        times.append((time.process_time() - start) / positions * 1e6)
    return statistics.median(times[1:])


@training_threads(1)
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--text", help="a text file, one document a line; default: the sample corpus"
    )
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    options = TextFile(path=args.text) if args.text else Sample()
    corpus = open_corpus(prepare(options, Path(Config(corpus=options).data_dir)))
    counts = select_vocabulary(corpus, options).counts
    result: dict[str, dict[str, float]] = {}
    for architecture in Architecture:
        config = Config(corpus=options, stream=StreamConfig(architecture=architecture))
        stream = Stream(
            corpus.tokens, corpus.documents, counts, config.stream, 1, config.train.lr, 0
        )
        batches = list(islice(stream.epoch(0), args.batches))
        check(len(counts), batches[0])
        positions = args.batches * config.stream.batch_size
        row = {
            str(n): microseconds_a_position(
                model_of(len(counts), n), batches, positions, args.repeats
            )
            for n in COLUMNS
        }
        slope, constant = np.polyfit(COLUMNS, list(row.values()), 1)
        result[architecture.value] = row | {"constant": float(constant), "per_column": float(slope)}
        costs = "  ".join(f"D={n}: {us:.1f} us" for n, us in row.items())
        print(
            f"{architecture.value:9} {costs}   fit: {constant:.1f} us + {slope:.4f} us x columns   (V={len(counts):,})"
        )
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
