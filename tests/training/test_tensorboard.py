"""TensorBoard's event file, read back by TensorBoard."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from small_runs import read_metrics, small_config

from w2v_inf.errors import UserError
from w2v_inf.runs.folder import METRICS, append_metrics
from w2v_inf.training import checkpoint
from w2v_inf.training import train as train_stage
from w2v_inf.training.progress import Progress, log_evaluation
from w2v_inf.training.tensorboard import EventFile

needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="the extra `tensorboard` is not installed"
)


def read(folder: Path) -> dict[str, list[tuple[float, int, float]]]:
    """Time, step and value of every scalar by its tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.wall_time, event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@needs_tensorboard
@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**40])
def test_steps_of_any_size(number: int, tmp_path: Path) -> None:
    line = {"event": "progress", "words_seen": number, "elapsed_s": 1.5}
    numbers = {"loss": 2.5, "lr": 0.05, "words_per_s": 1e6}
    append_metrics(tmp_path, line | numbers)
    EventFile(tmp_path).close()
    found = read(tmp_path)
    assert {tag: [event[1:] for event in events] for tag, events in found.items()} == {
        tag: [(number, pytest.approx(value))] for tag, value in numbers.items()
    }


@needs_tensorboard
@pytest.mark.slow  # trains whole runs
def test_a_resumed_run_has_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(tmp_path, "train.log=tensorboard", run="run")
    monkeypatch.setattr(checkpoint, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)

    def stop_after_an_epoch(
        evaluation: dict[str, Any], progress: Progress, epoch: int, *rest: Any
    ) -> None:
        log_evaluation(evaluation, progress, epoch, *rest)
        if epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_stage, "log_evaluation", stop_after_an_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_stage.train(config)
    assert list((tmp_path / "run").glob("checkpoint-*.json"))
    first = read(tmp_path / "run")
    folder = train_stage.train(config)
    assert len(list(folder.glob("events.*"))) == 2

    found, metrics = read(folder), read_metrics(folder)
    progress, evaluations = (
        [line for line in metrics if line["event"] == event] for event in ("progress", "evaluation")
    )
    assert {"loss", "lr", "words_per_s", "analogy/3cosadd", "analogy/3cosmul"} == set(found)
    for tag in ("loss", "lr", "words_per_s"):
        assert [event[1] for event in found[tag]] == [line["words_seen"] for line in progress]
        values = [event[2] for event in found[tag]]
        assert values == pytest.approx([line[tag] for line in progress], rel=1e-6)
    rules = {"analogy/3cosadd": "analogy", "analogy/3cosmul": "analogy_3cosmul"}
    for tag, name in rules.items():
        assert [event[1:] for event in found[tag]] == [
            (line["words_seen"], pytest.approx(line[name]["total"]["accuracy"]))
            for line in evaluations
        ]
    times = [event[0] for event in found["loss"]]
    elapsed = [line["elapsed_s"] for line in progress]
    assert [t - times[0] for t in times] == pytest.approx(
        [s - elapsed[0] for s in elapsed], abs=1e-3
    )
    assert len(first["loss"]) < len(found["loss"])


@pytest.mark.slow  # trains a run
def test_without_the_package_training_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'w2v_inf\[tensorboard\]'") as caught:
        train_stage.train(small_config(tmp_path, "train.log=tensorboard", run="run"))
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
    assert train_stage.train(small_config(tmp_path, "train.epochs=1", run="run")).exists()


@needs_tensorboard
def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / METRICS).touch()
    file = EventFile(tmp_path)

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file._writer, "flush", full)
    line = {"event": "progress", "words_seen": 1, "elapsed_s": 1.5}
    with pytest.raises(UserError, match="event file .*cannot be written .No space left on device"):
        file.add(line | {"loss": 2.5, "lr": 0.05, "words_per_s": 1e6})
    file.close()
