"""Every test: deterministic algorithms, full float32 precision, no network, kernels compiled once.

Decisions:
- Warnings are errors (pyproject.toml).
- Workers share numba's cache. Each compiles the kernels of one model while the others compile
  those of another, before any test. Otherwise all of them, and the processes that tests start,
  would compile the same kernels at the same time.
"""

import fcntl
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from browser import browser, browser_page  # noqa: F401  (fixtures for every test)

# cuBLAS is deterministic only with this setting; otherwise torch refuses its products.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Without a GPU, its kernels run in Triton's interpreter. Triton reads this when it is imported,
# also in processes that tests start.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

torch.use_deterministic_algorithms(True)
torch.set_float32_matmul_precision("highest")
torch.set_num_threads(1)

# A shell that starts tests in the background makes them ignore Ctrl-C. Their programs would
# inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Variables given to `make test`, such as ARGS, are not for the make that a test starts.
for name in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS", "CORPUS", "PROFILE"):
    os.environ.pop(name, None)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MODELS_WITH_KERNELS = (
    "model=finite model.width=4",
    "model=mup_limit model.engine=lowrank model.rank=4",
    "model=mup_limit model.dtype=bfloat16",
)


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> None:
    """Train each kind of model for a moment, each in one worker at a time.

    The fast tests need the kernels of finite networks only.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:  # a few tests in one process: each compiles only what it needs
        return
    folder = tmp_path_factory.mktemp("kernels")
    is_fast = pytestconfig.getoption("markexpr") == "not slow"
    models = MODELS_WITH_KERNELS[:1] if is_fast else MODELS_WITH_KERNELS
    first = int(worker.removeprefix("gw")) % len(models)
    for model in models[first:] + models[:first]:
        lock_file = tmp_path_factory.getbasetemp().parent / f"{model.replace(' ', '-')}.lock"
        with open(lock_file, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _train_for_a_moment(model.split(), str(folder))


def _train_for_a_moment(model: list[str], folder: str) -> None:
    # Imported here: conftest.py must set TRITON_INTERPRET before the package imports Triton.
    from composed import config_of

    from w2v_inf.training.train import train

    path = os.path.join(folder, "toy.txt")
    with open(path, "w") as text:
        text.write("the cat sat on the mat and the dog sat on the cat\n" * 40)
    options = ["corpus=file", f"corpus.path={path}", "stream.subsample_threshold=0", *model]
    folders = [f"data_dir={folder}/data", f"runs_dir={folder}/runs"]
    train(config_of(*options, *folders, "train.epochs=1", "num_threads=1"))


# For the session: fixtures of a module run outside those of a test.
@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Look up names and connect on this machine only."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _local_only(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", _local_names_only(socket.getaddrinfo))
        yield


def _local_only(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        # The address of a Unix socket is a path.
        _refuse_remote(address[0] if isinstance(address, tuple) else "localhost")
        return connect(self, address)

    return guarded


def _local_names_only(getaddrinfo: Any) -> Any:
    def guarded(host: Any, *args: Any, **options: Any) -> Any:
        _refuse_remote(host)
        return getaddrinfo(host, *args, **options)

    return guarded


def _refuse_remote(host: Any) -> None:
    if host not in LOOPBACK:
        raise OSError(f"a test tried to reach {host}")
