"""How does the cost grow with the vocabulary of the exact limit, with the corpus, and with threads?

- Limit: CPU microseconds per position against V, with a fitted line, and the process's memory.
- Stream: positions per CPU second, and resident memory without mapped files, over a corpus and over
  the same corpus repeated.
- Threads: wall time of one thread over that of two. With other jobs on the cores it says little.
Checked first: a step equals that of the reference implementation, and two threads give the same
loss as one.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy_cost import check, model_of

from w2v_inf.config import (
    Architecture,
    Config,
    CorpusConfig,
    Sample,
    StreamConfig,
    TextFile,
    TrainConfig,
)
from w2v_inf.corpus.load import EncodedCorpus, open_corpus, select_vocabulary
from w2v_inf.corpus.prepare import prepare
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel
from w2v_inf.stream import Batch, Stream
from w2v_inf.training.train import BATCHES_AT_ONCE

Row = dict[str, Any]


def train(model: LinearModel, batches: list[Batch]) -> tuple[float, float]:
    """CPU and wall microseconds per position."""
    positions = sum(len(batch.target) for batch in batches)
    cpu, wall = time.process_time(), time.perf_counter()
    for k in range(0, len(batches), BATCHES_AT_ONCE):
        model.train_batches(batches[k : k + BATCHES_AT_ONCE])
    return (time.process_time() - cpu) / positions * 1e6, (
        time.perf_counter() - wall
    ) / positions * 1e6


def resident_bytes() -> int:
    """Anonymous memory of this process: without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def cbow_stream(options: CorpusConfig, max_vocab: int, corpus: EncodedCorpus) -> Stream:
    options.max_vocab = max_vocab
    config = Config(corpus=options)
    counts = select_vocabulary(corpus, options).counts
    return Stream(corpus.tokens, corpus.documents, counts, config.stream, 1, config.train.lr, 0)


def against_vocabulary(
    options: CorpusConfig, corpus: EncodedCorpus, sizes: list[int], rounds: int
) -> list[Row]:
    rows = []
    for size in sizes:
        stream = cbow_stream(options, size, corpus)
        vocab_size = len(stream.counts)
        check(stream, vocab_size, TrainConfig())
        batches = list(islice(stream.epoch(0), 120))
        model = model_of(vocab_size, 0, 0)
        model.rule = replace(model.rule, weight_decay=0.001)
        train(model, batches)
        costs = [train(model, batches)[0] for _ in range(rounds)]
        gib = resident_bytes() / 2**30
        rows.append(
            {
                "vocabulary": vocab_size,
                "us": statistics.median(costs),
                "all": costs,
                "resident_gib": gib,
            }
        )
        per_column = f"{1e3 * rows[-1]['us'] / vocab_size:.2f} ns per column"
        text = f"{rows[-1]['us']:.1f} us [{min(costs):.1f}-{max(costs):.1f}], {per_column}"
        print(f"limit, V={vocab_size:,}: {text}, {gib:.2f} GiB", flush=True)
    sizes, costs = [row["vocabulary"] for row in rows], [row["us"] for row in rows]
    slope, constant = np.polyfit(sizes, costs, 1)
    worst = max(abs(constant + slope * v - us) / us for v, us in zip(sizes, costs, strict=True))
    print(f"  line: {constant:.1f} us + {1e3 * slope:.2f} ns x V, off by at most {worst:.0%}")
    return rows


def stream_rates(options: CorpusConfig, corpus: EncodedCorpus, rounds: int) -> list[Row]:
    rows = []
    options.max_vocab = 0
    counts = select_vocabulary(corpus, options).counts
    for architecture in Architecture:
        for repeats in (1, 8):
            config = Config(corpus=options, stream=StreamConfig(architecture=architecture))
            tokens = np.tile(np.asarray(corpus.tokens), repeats)
            documents = np.append(corpus.documents[:-1], len(tokens))
            stream = Stream(
                tokens, documents, repeats * counts, config.stream, 1, config.train.lr, 0
            )
            for _ in islice(stream.epoch(0), 10):
                pass
            before, rates, high = resident_bytes(), [], 0
            for _ in range(rounds):
                start, num_batches = time.process_time(), 0
                for _ in stream.epoch(0):
                    num_batches += 1
                    if num_batches % 4096 == 0:
                        high = max(high, resident_bytes() - before)
                rates.append(num_batches * config.stream.batch_size / (time.process_time() - start))
            row = {
                "architecture": architecture.value,
                "tokens": len(tokens),
                "positions_per_cpu_s": statistics.median(rates),
                "all": rates,
            }
            rows.append(row | {"grown_mib": high / 2**20})
            spread = f"[{min(rates) / 1e6:.1f}-{max(rates) / 1e6:.1f}]"
            rate = f"{row['positions_per_cpu_s'] / 1e6:.1f}M positions per CPU second {spread}"
            size = f"{len(tokens):,} tokens, V={len(counts):,}"
            name = f"stream, {architecture.value}"
            print(f"{name}, {size}: {rate}, {high / 2**20:.0f} MiB", flush=True)
    return rows


def threads(
    options: CorpusConfig, corpus: EncodedCorpus, widths: list[int], max_vocab: int, rounds: int
) -> list[Row]:
    rows = []
    stream = cbow_stream(options, max_vocab, corpus)
    for width in widths:
        batches = list(islice(stream.epoch(0), 120 if width == 0 else 2400))
        losses, walls = {}, {1: [], 2: []}
        for _ in range(rounds):
            for num_threads in walls:
                with training_threads(num_threads):
                    model = model_of(len(stream.counts), width, 0)
                    losses[num_threads] = [model.update(batch) for batch in batches[:10]]
                    walls[num_threads].append(train(model, batches)[1])
        np.testing.assert_allclose(losses[1], losses[2], rtol=1e-5)
        speedups = [one / two for one, two in zip(walls[1], walls[2], strict=True)]
        rows.append(
            {"width": width or "limit", "wall_us": walls, "speedup": statistics.median(speedups)}
        )
        text = f"{rows[-1]['speedup']:.2f} x [{min(speedups):.2f}-{max(speedups):.2f}]"
        print(f"threads, width {width or 'limit'}: {text}", flush=True)
    return rows


@training_threads(1)
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--text", help="a text file, one document a line; default: the sample corpus"
    )
    parser.add_argument("--vocabularies", type=int, nargs="*", default=[2000, 4000, 8000])
    parser.add_argument(
        "--widths",
        type=int,
        nargs="*",
        default=[64, 256, 1024, 0],
        help="for threads; 0: the dense limit",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)

    options = TextFile(path=args.text) if args.text else Sample()
    corpus = open_corpus(prepare(options, Path(Config(corpus=options).data_dir)))
    result = {"options": vars(args) | {"json": None}}
    result["stream"] = stream_rates(options, corpus, args.rounds)
    result["vocabulary"] = against_vocabulary(options, corpus, args.vocabularies, args.rounds)
    result["threads"] = threads(options, corpus, args.widths, 7670, args.rounds)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
