"""Child processes that end with this one."""

import os
import subprocess
import threading
from typing import Any


class Children:
    """The running processes. One lock guards start and end, so that termination misses none."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.processes: list[subprocess.Popen[str]] = []
        self.stopping = False

    def start(self, command: list[str]) -> "subprocess.Popen[str] | None":
        """Start a process that writes stderr to a pipe; None after `terminate`."""
        env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with self.lock:
            if self.stopping:
                return None
            pipe: Any = {"stderr": subprocess.PIPE, "text": True, "errors": "replace"}
            process = subprocess.Popen(command, env=env, **pipe)
            self.processes.append(process)
            return process

    def terminate(self) -> None:
        """Terminate all processes and start no more."""
        with self.lock:
            self.stopping = True
            for process in self.processes:
                process.terminate()
