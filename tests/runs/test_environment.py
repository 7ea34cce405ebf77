"""The memory that a run takes, and the facts of its machine."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of

from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.runs.environment import environment, peak_rss_bytes, reset_peak_rss, rss_bytes


def test_memory_now_and_at_its_peak() -> None:
    reset_peak_rss()
    before = rss_bytes()
    block = np.ones(8_000_000)  # 64 MB
    assert rss_bytes() > before + 5e7
    del block
    assert peak_rss_bytes() > before + 5e7 and peak_rss_bytes() >= rss_bytes() * 0.9


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux resets the peak")
def test_the_peak_can_be_reset() -> None:
    block = np.ones(8_000_000)
    del block
    before = peak_rss_bytes()
    reset_peak_rss()
    assert peak_rss_bytes() < before - 3e7


def test_the_environment_is_json() -> None:
    facts = environment(config_of("seed=3"), torch.device("cpu"), "abc")
    assert json.loads(json.dumps(facts)) == facts
    assert facts["gpu"] is None and facts["seed"] == 3 and facts["corpus_checksum"] == "abc"
    assert facts["torch"] == torch.__version__ and " x " in facts["cpu"]


def test_what_is_recorded_is_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """OMP_NUM_THREADS sets torch's threads, not ours; a command can be typed again."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(sys, "argv", ["/a/train.py", "corpus.path=it's é.txt"])
    with training_threads(3):
        found = environment(config_of(), torch.device("cpu"), "x")
    assert found["num_threads"] == 3
    assert shlex.split(found["command"]) == ["train.py", "corpus.path=it's é.txt"]
