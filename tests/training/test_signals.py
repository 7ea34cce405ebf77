"""Ctrl-C and SIGTERM; test_checkpoint.py resumes the runs that they stop."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import small_config

from w2v_inf.config import PROJECT_ROOT
from w2v_inf.training.signals import catch_signals

pytestmark = pytest.mark.slow  # trains whole runs or starts processes


def test_a_second_ctrl_c_acts_at_once_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), catch_signals() as caught:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # after a Ctrl-C it stops nothing by itself
        assert caught.number == signal.SIGINT
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second Ctrl-C was swallowed")
    with pytest.raises(SystemExit) as stopped, catch_signals():
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_scripts_exit_with_the_signals_code(number: int, code: int, tmp_path: Path) -> None:
    small_config(tmp_path)  # writes the text
    options = [
        "corpus=file",
        f"corpus.path={tmp_path}/toy.txt",
        f"data_dir={tmp_path}/data",
        f"run_dir={tmp_path}/run",
        "train.epochs=10000",
        "num_threads=1",
    ]
    command = [sys.executable, str(PROJECT_ROOT / "scripts" / "train.py"), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        metrics = tmp_path / "run" / "metrics.jsonl"
        for _ in range(600):
            if metrics.exists() and "progress" in metrics.read_text():
                break
            time.sleep(0.1)
        process.send_signal(number)
        _, log = process.communicate(timeout=60)
    assert process.returncode == code, log
    assert "the same command resumes from there" in log.splitlines()[-1] and "Traceback" not in log
    assert len(list((tmp_path / "run").glob("checkpoint-*.json"))) == 1
