"""Every test: deterministic algorithms, full float32 precision, no network. Warnings are errors (pyproject.toml)."""

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import torch

os.environ.setdefault(
    "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
)  # without it a card's products are not deterministic, and refused
# Kernels for a card are interpreted where there is none; Triton reads it when it is imported, also in what tests start.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

torch.use_deterministic_algorithms(True)
torch.set_float32_matmul_precision("highest")
torch.set_num_threads(1)

# Whoever starts the tests in the background may have Ctrl-C ignored, which the programs that they start would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Variables given to `make test`, such as ARGS, are for it, not for the make that a test starts.
for name in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS", "CORPUS", "PROFILE"):
    os.environ.pop(name, None)

LOOPBACK = ("127.0.0.1", "::1", "localhost")


# For the session: fixtures of a module's scope run outside those of a test.
@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Names are looked up and connections made on this machine only."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _local_only(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", _local_names_only(socket.getaddrinfo))
        yield


def _local_only(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        _refuse_remote(
            address[0] if isinstance(address, tuple) else "localhost"
        )  # else the path of a Unix socket
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
