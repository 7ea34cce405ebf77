"""How near do the Triton kernels come to the rates of the GPU that they run on?

Checks a step against the compiled CPU step. Then measures: the time of each pass over --columns
columns, as GB/s and TFLOP/s beside the GPU's own rates in copies and products; a whole step by the
kernels and in torch; and words per second of training, for --widths. It needs a GPU; none of its
numbers has been recorded yet.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from w2v_inf.config import Architecture, Config, CorpusConfig, Sample, StreamConfig, TextFile
from w2v_inf.corpus.load import open_corpus, select_vocabulary
from w2v_inf.corpus.prepare import prepare
from w2v_inf.models.cpu.step import sgd_steps
from w2v_inf.models.gpu import step as gpu_step
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch, Stream
from w2v_inf.training.train import BATCHES_AT_ONCE, group_batches

RULE = UpdateRule(weight_decay=0.001)
HERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Row = dict[str, float | str]


def make_stream(options: CorpusConfig, architecture: Architecture) -> Stream:
    """One epoch of the corpus."""
    config = Config(corpus=options, stream=StreamConfig(architecture=architecture))
    corpus = open_corpus(prepare(options, Path(config.data_dir)))
    counts = select_vocabulary(corpus, options).counts
    return Stream(
        corpus.tokens, corpus.documents, counts, config.stream, 1, config.train.lr, seed=0
    )


def seconds(run: Callable[[], object]) -> float:
    """Wall time of what `run` launches: the least of three, after a warm-up."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        run()
        if HERE.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def ceilings(size: int) -> dict[str, float]:
    """GB/s of a copy (read and written), TFLOP/s of products [size, size] in float32 and tf32."""
    a, b = (torch.randn(size, size, device=HERE) for _ in "ab")
    found = {"copy_gbytes": 2 * a.nbytes / seconds(lambda: b.copy_(a)) / 1e9}
    for name, allowed in (("float32", False), ("tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        found[f"{name}_tflops"] = 2 * size**3 / seconds(lambda: a @ b) / 1e12
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def check(batches: list[Batch], vocab_size: int) -> None:
    """Some steps on the GPU are those of the compiled CPU step, to float32's rounding."""
    generator = torch.Generator().manual_seed(0)
    u, w = torch.randn(2, vocab_size, 192, generator=generator).mul_(0.07)
    gpu_u, gpu_w = (table.to(HERE, copy=True) for table in (u, w))
    losses = gpu_step.gpu_steps(gpu_u, gpu_w, batches, RULE).cpu()
    np.testing.assert_allclose(losses, sgd_steps(u, w, batches, RULE), rtol=1e-5)
    assert (gpu_u.cpu() - u).norm() < 1e-5 * u.norm()
    assert (gpu_w.cpu() - w).norm() < 1e-5 * w.norm()


def time_passes(batches: list[Batch], vocab_size: int, columns: int, dtype: Any) -> list[Row]:
    """Time per step of each pass, and of whole steps by the kernels and in torch."""
    u, w = (torch.empty(vocab_size, columns, dtype=dtype, device=HERE) for _ in "uw")
    u.normal_(0, 0.01), w.normal_(0, 0.01)
    scales = None
    if dtype is torch.bfloat16:
        scales = torch.ones(vocab_size, device=HERE), torch.ones(vocab_size, device=HERE)
    packed = gpu_step.pack_for_kernels(batches, RULE.weight_decay, vocab_size, dtype)
    assert packed is not None, "these batches go to torch"
    arguments = gpu_step.kernel_arguments(u, w, batches, packed, RULE, scales)
    logits, gradients, update = gpu_step.passes(arguments)

    def steps_of(one: gpu_step.Pass) -> Callable[[], object]:
        return lambda: [one.launch(arguments, step) for step in range(len(batches))]

    inputs, outputs = np.diff(packed.edges[:2], axis=1).astype(float)
    row_bytes = u.itemsize * columns * float((inputs + outputs).sum())
    pairs = columns * float((inputs * outputs).sum())
    part_bytes = float(arguments["parts"].nbytes * len(batches))
    work = {
        "logits": (steps_of(logits), row_bytes, 2 * pairs),
        "gradients": (steps_of(gradients), part_bytes, 0.0),
        "update": (steps_of(update), 2 * row_bytes, 4 * pairs),
        "step by kernels": (
            lambda: gpu_step.kernel_steps(u, w, batches, packed, RULE, scales),
            3 * row_bytes,
            6 * pairs,
        ),
        "step in torch": (
            lambda: gpu_step.torch_steps(u, w, batches, RULE, scales),
            3 * row_bytes,
            6 * pairs,
        ),
    }
    found: list[Row] = []
    for name, (run, moved, flop) in work.items():
        duration = seconds(run)
        row: Row = {"dtype": str(dtype)[6:], "pass": name, "us": 1e6 * duration / len(batches)}
        found.append(row | {"gbytes": moved / duration / 1e9, "tflops": flop / duration / 1e12})
    return found


def words_per_second(stream: Stream, width: int, num_batches: int) -> float:
    """In-vocabulary words before subsampling; the drawing of batches is included."""
    u = torch.randn(len(stream.counts), width, device=HERE).mul_(width**-0.5)
    w, seen = torch.zeros_like(u), [0]

    def train() -> None:
        batches = islice(stream.epoch(0), num_batches)
        for group in group_batches(batches, True):
            gpu_step.gpu_steps(u, w, group, RULE)
            seen[0] = group[-1].words_seen

    return seen[0] / seconds(train) if num_batches > BATCHES_AT_ONCE else float("nan")


def measure(options: CorpusConfig, args: argparse.Namespace) -> dict[str, Any]:
    """All measurements, printed as they come."""
    name = torch.cuda.get_device_name() if HERE.type == "cuda" else "interpreted"
    found: dict[str, Any] = {"device": name, "ceilings": ceilings(args.ceiling_size), "rows": []}
    print(found["device"], found["ceilings"], flush=True)
    for architecture in Architecture:
        stream = make_stream(options, architecture)
        batches = list(islice(stream.epoch(0), args.steps))
        check(batches, len(stream.counts))
        rows: list[Row] = []
        for dtype in (torch.float32, torch.bfloat16):
            rows += time_passes(batches, len(stream.counts), args.columns // 16 * 16, dtype)
        for width in args.widths:
            rate = words_per_second(stream, width, args.batches)
            rows.append({"width": width, "words_per_s": rate})
        for row in rows:
            print(
                architecture.value,
                *(
                    f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in row.items()
                ),
                sep="  ",
                flush=True,
            )
            found["rows"].append({"architecture": architecture.value} | row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", help="a text file, one document per line; default: the sample")
    parser.add_argument("--max-vocab", type=int, default=0, help="0: all words")
    parser.add_argument("--columns", type=int, default=67_936, help="of the passes' tables")
    parser.add_argument("--widths", type=int, nargs="*", default=[64, 128, 256, 512, 1024])
    parser.add_argument("--batches", type=int, default=20_000, help="per training of a width")
    parser.add_argument("--steps", type=int, default=64, help="per check and pass")
    parser.add_argument("--ceiling-size", type=int, default=8192)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not gpu_step.kernels_run_on(HERE):
        sys.exit("no GPU that Triton can use here: this benchmark measures on one only")
    text, most = args.text, args.max_vocab
    options = TextFile(path=text, max_vocab=most) if text else Sample(max_vocab=most)
    found = measure(options, args)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
