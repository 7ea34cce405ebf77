"""The machine's GEMM and copy rates, where the update spends its time; shared by the benchmarks."""

import platform
import statistics
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numba import njit


def cpu_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Median CPU seconds of `run`, all threads, after a warm-up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


@njit
def _products(a: np.ndarray, b: np.ndarray, out: np.ndarray, times: int) -> None:
    for _ in range(times):
        np.dot(a, b, out)


def gemm_gflops(
    num_hidden: int = 64, num_negatives: int = 32, columns: int = 512, times: int = 2000
) -> float:
    """10^9 FLOP per second of the update's GEMMs, [E, N] x [N, columns], float32, one thread."""
    rng = np.random.default_rng(0)
    a, b = (
        rng.random((num_hidden, num_negatives), np.float32),
        rng.random((num_negatives, columns), np.float32),
    )
    out = np.empty((num_hidden, columns), np.float32)
    return (
        2
        * num_hidden
        * num_negatives
        * columns
        * times
        / cpu_seconds(lambda: _products(a, b, out, times))
        / 1e9
    )


def copy_gbytes(size: int = 1 << 28) -> float:
    """10^9 bytes read and written a second by a copy that no cache holds, on one thread."""
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    return 2 * size / cpu_seconds(lambda: np.copyto(target, source)) / 1e9


def describe() -> dict[str, str | float]:
    """Name and measured ceilings."""
    name = platform.processor() or platform.machine()
    with (
        suppress(FileNotFoundError),
        open("/proc/cpuinfo") as lines,
    ):  # not Linux: what Python knows is the name
        name = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), name
        )
    return {
        "cpu": name,
        "python": platform.python_version(),
        "gemm_gflops": gemm_gflops(),
        "copy_gbytes": copy_gbytes(),
    }
