"""Do Triton's kernels compile well for a card, and how near do they come to what the card can do?

Without a card: compiles every kernel as training launches it (on batches of the sample corpus, or of --text) for an H100, and prints
what a program takes: registers of a thread, bytes spilled, shared memory, how many programs a multiprocessor holds; and what the code
does its work with: products on matrix units, copies of 16 bytes ahead of their use.
With a card: a step is checked against the compiled CPU step; then the time of each pass over --columns columns, as GB/s and FLOP/s beside
what the card reaches in copies and products, the time of a whole step by kernels and in torch, and words a second of training.
"""

import argparse
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch
import triton
from machine import cpu_seconds
from torch import Tensor
from triton.backends.compiler import GPUTarget

from w2v_inf.config import Architecture, Config, CorpusConfig, Sample, StreamConfig, TextFile
from w2v_inf.corpus.load import open_corpus, select_vocabulary
from w2v_inf.corpus.prepare import prepare
from w2v_inf.models.cpu.step import fused_steps
from w2v_inf.models.gpu import step as gpu_step
from w2v_inf.models.linear import LinearModel
from w2v_inf.stream import Batch, Stream
from w2v_inf.training.train import BATCHES_AT_ONCE, batches_at_once

H100 = GPUTarget("cuda", 90, 32)
REGISTERS, SHARED_BYTES, WARPS = 65536, 228 * 1024, 64
"""Of a multiprocessor of an H100."""
NUM_STEPS = 64
HERE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class StandIn:
    """What Triton asks of a card's driver, for an H100 that is not there: kernels are compiled for it, and launches do nothing."""

    utils = property(lambda self: self)

    def get_current_target(self) -> GPUTarget:
        return H100

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": SHARED_BYTES - 1024}

    def load_binary(
        self, name: str, code: bytes, shared: int, device: int
    ) -> tuple[int, int, int, int, int]:
        """Module, function, registers, spills, most threads."""
        return 1, 1, 0, 0, 1024

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        return lambda *arguments: None


def build_stream(
    options: CorpusConfig, architecture: Architecture, batch_size: int
) -> tuple[Stream, int]:
    """The stream, and V."""
    corpus = open_corpus(prepare(options, Path(Config(corpus=options).data_dir)))
    counts = select_vocabulary(corpus, options).counts
    config = Config(
        corpus=options, stream=StreamConfig(architecture=architecture, batch_size=batch_size)
    )
    return Stream(
        corpus.tokens, corpus.documents, counts, config.stream, 1, config.train.lr, 0
    ), len(counts)


def launched(
    batches: list[Batch], vocab_size: int, dtype: torch.dtype, columns: int
) -> list[tuple[int, Any]]:
    """The distinct compiled kernels that steps on tables of so many columns launch, each with its block of inputs."""
    found: dict[str, tuple[int, Any]] = {}

    class Noting(gpu_step.Launch):
        def __call__(self, **changed: Any) -> None:
            super().__call__(**changed)
            found.setdefault(self.kernel.__name__, (self.arguments["BLOCK_I"], self.compiled))

    launch, gpu_step.Launch = gpu_step.Launch, Noting
    try:
        steps_here(batches, vocab_size, dtype, columns)()
    finally:
        gpu_step.Launch = launch
    return list(found.values())


def steps_here(
    batches: list[Batch], vocab_size: int, dtype: torch.dtype, columns: int
) -> Callable[[], object]:
    """Steps by kernels; on tables in the machine's memory where the stand-in takes them."""
    u, w = (torch.zeros(vocab_size, columns, dtype=dtype, device=HERE) for _ in "uw")
    scales = (
        (torch.ones(vocab_size, device=HERE), torch.ones(vocab_size, device=HERE))
        if dtype is torch.bfloat16
        else None
    )

    def take() -> None:
        packed = gpu_step.pack_for_kernels(batches, 0.001, vocab_size, dtype)
        assert packed is not None, "these batches are torch's"
        gpu_step.kernel_steps(u, w, batches, packed, scales=scales)

    return take


def resources(compiled: Any) -> dict[str, Any]:
    """Of the machine code: what a program takes, and with what it works."""
    num_warps = compiled.metadata.num_warps
    with NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(compiled.asm["cubin"])
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        said = subprocess.run(
            [tool, "-res-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found, said
    registers, shared, ptx = int(found[1]), compiled.metadata.shared, compiled.asm["ptx"]
    programs = min(
        REGISTERS // (-(-registers // 8) * 8 * 32 * num_warps),
        SHARED_BYTES // (shared + 1024),
        WARPS // num_warps,
    )
    work = {
        "products": len(re.findall(r"wgmma\.mma_async|mma\.sync", ptx)),
        "copies": len(re.findall(r"cp\.async\.cg\.[^;]*0x10", ptx)),
    }
    about = {"kernel": compiled.metadata.name, "warps": num_warps}
    return (
        about
        | {
            "registers": registers,
            "stack_bytes": int(found[2]),
            "shared_bytes": shared,
            "programs": programs,
        }
        | work
    )


def compiled_rows(options: CorpusConfig) -> list[dict[str, Any]]:
    """Every kernel for usual and large batches, both architectures and both storages."""
    rows = []
    for architecture, batch_size in (
        (Architecture.cbow, 0),
        (Architecture.cbow, 128),
        (Architecture.skipgram, 0),
        (Architecture.cbow, 1),
    ):
        stream, vocab_size = build_stream(options, architecture, batch_size)
        batches = list(islice(stream.epoch(0), gpu_step.BATCHES_A_PACK))
        for dtype in (torch.float32, torch.bfloat16):
            for columns in (gpu_step.NARROW, 2 * gpu_step.NARROW):
                for inputs, compiled in launched(batches, vocab_size, dtype, columns):
                    about = {
                        "architecture": architecture.value,
                        "batch_size": stream.config.batch_size,
                        "dtype": str(dtype)[6:],
                    }
                    row = about | {"inputs": inputs} | resources(compiled)
                    rows += (
                        [row] if row not in rows else []
                    )  # batches too large for one program are launched alike at any width
    return rows


def host_us(options: CorpusConfig) -> dict[str, float]:
    """CPU microseconds a step on the host, apart from CUDA's own launch, in the exact limit's usual CBOW batches: median of five."""
    stream, vocab_size = build_stream(options, Architecture.cbow, 0)
    batches = list(islice(stream.epoch(0), gpu_step.BATCHES_A_PACK))
    ways = {
        "all of a wide step": steps_here(batches, vocab_size, torch.float32, 2 * gpu_step.NARROW),
        "all of a narrow step": steps_here(batches, vocab_size, torch.float32, 64),
        "packing, of these": lambda: gpu_step.pack_for_kernels(
            batches, 0.001, vocab_size, torch.float32
        ),
        "drawing": lambda: list(islice(stream.epoch(0), 1000)),
    }
    steps = {"drawing": 1000}
    return {
        name: 1e6 * cpu_seconds(run) / steps.get(name, len(batches)) for name, run in ways.items()
    }


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of what `run` launches, after a warm-up."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def ceilings(device: torch.device, size: int) -> dict[str, float]:
    """GB/s of a copy (read and written), and FLOP/s of products [size, size] in float32 and in tf32."""
    source = torch.randn(size * size // 4, 4, device=device)
    target, a, b = (
        torch.empty_like(source),
        torch.randn(size, size, device=device),
        torch.randn(size, size, device=device),
    )
    found = {"copy_gbytes": 2 * source.nbytes / seconds(lambda: target.copy_(source), device) / 1e9}
    for name, allowed in (("float32", False), ("tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        found[f"{name}_tflops"] = 2 * size**3 / seconds(lambda: a @ b, device) / 1e12
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def check(batches: list[Batch], vocab_size: int, device: torch.device) -> None:
    """Some steps on the device are the compiled CPU steps', to float32's rounding."""
    generator = torch.Generator().manual_seed(0)
    u, w = (torch.randn(vocab_size, 192, generator=generator).mul_(0.07) for _ in "uw")
    model = LinearModel(u.to(device, copy=True), w.to(device, copy=True), weight_decay=0.001)
    assert not model.u.is_cuda or gpu_step.kernels_run_on(device)
    losses = model.update_on_device(batches)
    np.testing.assert_allclose(losses, fused_steps(u, w, batches, 0.001), rtol=1e-5)
    assert (model.u.cpu() - u).norm() < 1e-5 * u.norm() and (
        model.w.cpu() - w
    ).norm() < 1e-5 * w.norm()


def passes(batches: list[Batch], u: Tensor, w: Tensor) -> list[dict[str, float | str]]:
    """Time of each pass, and of whole steps by kernels and in torch."""
    packed = gpu_step.pack_for_kernels(batches, 0.001, len(u), u.dtype)
    assert packed is not None
    scales = (
        (torch.ones(len(u), device=u.device), torch.ones(len(u), device=u.device))
        if u.dtype is torch.bfloat16
        else None
    )
    known = gpu_step.arguments(u, w, batches, packed, (1.0, 1.0), False, False, scales)
    launched = gpu_step.launches(known, len(batches), False)
    inputs, outputs = np.diff(packed.edges[:2], axis=1).astype(float)
    rows, pairs = (
        u.itemsize * u.shape[1] * (inputs + outputs).sum(),
        u.shape[1] * (inputs * outputs).sum(),
    )
    work = {
        "logits": (rows, 2 * pairs),
        "gradients": (launched.parts.nbytes * len(batches), 0.0),
        "update": (2 * rows, 4 * pairs),
    }
    found: list[dict[str, float | str]] = []
    for name, (moved, flop) in work.items():
        launch = getattr(launched, name)
        duration = seconds(
            lambda launch=launch: [launch(step=step) for step in range(len(batches))], u.device
        )
        found.append(
            {
                "pass": name,
                "us": 1e6 * duration / len(batches),
                "gbytes": moved / duration / 1e9,
                "tflops": flop / duration / 1e12,
            }
        )
    model = LinearModel(u, w, weight_decay=0.001, scales=scales)
    ways = {
        "step by kernels": lambda: model.update_on_device(batches),
        "step in torch": lambda: [model._step(b, None) for b in batches],
    }
    for name, run in ways.items():
        duration = seconds(run, u.device)
        found.append(
            {
                "pass": name,
                "us": 1e6 * duration / len(batches),
                "gbytes": 3 * rows / duration / 1e9,
                "tflops": 6 * pairs / duration / 1e12,
            }
        )
    return found


def ways_of_narrow_nets(
    batches: list[Batch], vocab_size: int, width: int, device: torch.device
) -> dict[str, float]:
    """Microseconds a step by one program and by three launches."""
    packed = gpu_step.pack_for_kernels(batches, 0.001, vocab_size, torch.float32)
    assert packed is not None
    u, w = (torch.randn(vocab_size, width, device=device).mul_(width**-0.5) for _ in "uw")
    ways = {"one program": width, "three launches": 0}
    steps = {
        name: partial(gpu_step.kernel_steps, u, w, batches, packed, narrow=narrow)
        for name, narrow in ways.items()
    }
    return {name: 1e6 * seconds(run, device) / len(batches) for name, run in steps.items()}


def words_a_second(
    stream: Stream, vocab_size: int, width: int, num_batches: int, device: torch.device
) -> float:
    """In-vocabulary words before subsampling, the drawing of batches included."""
    u = torch.randn(vocab_size, width, device=device).mul_(width**-0.5)
    model, seen = LinearModel(u, torch.zeros_like(u), weight_decay=0.001), [0]

    def train() -> None:
        for some in batches_at_once(islice(stream.epoch(0), num_batches), ahead=True):
            model.update_on_device(some)
            seen[0] = some[-1].words_seen

    return seen[0] / seconds(train, device) if num_batches > BATCHES_AT_ONCE else float("nan")


def on_device(
    options: CorpusConfig, args: argparse.Namespace, device: torch.device
) -> dict[str, Any]:
    """Everything that needs the card."""
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreted"
    }
    found |= {"ceilings": ceilings(device, args.ceiling_size), "passes": []}
    print(found, flush=True)
    for architecture in Architecture:
        stream, vocab_size = build_stream(options, architecture, args.batch_size)
        batches = list(islice(stream.epoch(0), NUM_STEPS))
        check(batches[: args.checked], vocab_size, device)
        for dtype in (torch.float32, torch.bfloat16):
            u, w = (
                torch.empty(
                    vocab_size, args.columns // 16 * 16, dtype=dtype, device=device
                ).normal_(0, 0.01)
                for _ in "uw"
            )
            for row in passes(batches[: args.checked], u, w):
                row = {"architecture": architecture.value, "dtype": str(dtype)[6:]} | row
                found["passes"].append(row)
                print(
                    " ".join(
                        f"{value:>16,.2f}" if isinstance(value, float) else f"{value:>16}"
                        for value in row.values()
                    ),
                    flush=True,
                )
            del u, w
        for width in args.widths:
            ways = ways_of_narrow_nets(batches[: args.checked], vocab_size, width, device)
            found[f"narrow_us_{architecture.value}_{width}"] = ways
            print(
                f"{architecture.value} width {width}:",
                *(f"{name} {us:,.1f} us a step" for name, us in ways.items()),
                flush=True,
            )
            rate = words_a_second(stream, vocab_size, width, args.batches, device)
            found[f"words_a_second_{architecture.value}_{width}"] = rate
            print(f"{architecture.value} width {width}: {rate:,.0f} words a second", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--text", help="a text file, one document a line; default: the sample corpus"
    )
    parser.add_argument("--max-vocab", type=int, default=0, help="0: all words")
    parser.add_argument(
        "--columns",
        type=int,
        default=67_936,
        help="of the tables that the passes are timed on; V in the exact limit",
    )
    parser.add_argument("--widths", type=int, nargs="*", default=[64, 128, 256, 512, 1024])
    parser.add_argument("--batch-size", type=int, default=0, help="0: the default")
    parser.add_argument("--batches", type=int, default=20_000, help="that each width is trained on")
    parser.add_argument(
        "--checked",
        type=int,
        default=NUM_STEPS,
        help="batches in a check, and in a pass that is timed",
    )
    parser.add_argument("--ceiling-size", type=int, default=8192)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    options = (
        TextFile(path=args.text, max_vocab=args.max_vocab)
        if args.text
        else Sample(max_vocab=args.max_vocab)
    )
    found: dict[str, Any] = {}
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not interpreted:
        if not torch.cuda.is_available():
            triton.runtime.driver.set_active(StandIn())
            found["host_us"] = host_us(options)
            print(found["host_us"])
        found["compiled"] = compiled_rows(options)
        for row in found["compiled"]:
            print(*(f"{name} {value}" for name, value in row.items()), sep="  ", flush=True)
    if torch.cuda.is_available() or interpreted:
        found |= on_device(options, args, HERE)
    else:
        print("no card here: compiled only")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
