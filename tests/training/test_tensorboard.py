"""TensorBoard's event files, read back by a reader of the format's own rules."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from composed import config_of

from w2v_inf.runs import events
from w2v_inf.runs.folder import run_folder
from w2v_inf.training import checkpoint
from w2v_inf.training import train as train_stage
from w2v_inf.training.progress import Progress, log_evaluation

SHORT = [
    "corpus=file",
    "train.epochs=2",
    "train.log=tensorboard",
    "stream.subsample_threshold=0",
    "num_threads=1",
    "model.width=4",
]


def read(path: Path) -> list[tuple[float, int, dict[str, float]]]:
    """Time, step and scalars of every record; checksums and field numbers are checked."""
    content, found = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        data = content[12 : 12 + size]
        assert content[8:12] == events._masked_crc(content[:8]) and content[
            12 + size : 16 + size
        ] == events._masked_crc(data)
        content = content[16 + size :]
        fields = dict(parse(data))
        values = [dict(parse(value)) for _, value in parse(fields.get(5, b""))]
        scalars = {value[1].decode(): struct.unpack("<f", value[2])[0] for value in values}
        found.append((struct.unpack("<d", fields[1])[0], fields[2], scalars))
    return found


def parse(message: bytes) -> list[tuple[int, Any]]:
    """Fields of a protobuf message (developers.google.com/protocol-buffers/docs/encoding)."""
    found, place = [], 0

    def varint() -> int:
        nonlocal place
        number, shift = 0, 0
        while True:
            byte = message[place]
            number |= (byte & 127) << shift
            place, shift = place + 1, shift + 7
            if byte < 128:
                return number

    while place < len(message):
        key = varint()
        if key & 7 == 0:
            found.append((key >> 3, varint()))
            continue
        size = {1: 8, 5: 4}.get(key & 7) or varint()
        found.append((key >> 3, message[place : place + size]))
        place += size
    return found


def test_known_checksums() -> None:
    assert (
        events.crc32c(b"123456789") == 0xE3069283 and events.crc32c(bytes(32)) == 0x8A9136AA
    )  # RFC 3720, B.4


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**40])
def test_steps_of_any_size(number: int, tmp_path: Path) -> None:
    line = {
        "event": "progress",
        "words_seen": number,
        "elapsed_s": 1.5,
        "loss": 2.5,
        "lr": 0.05,
        "words_per_s": 1e6,
    }
    events.start(tmp_path, [line])
    path = events.find(tmp_path)
    assert path is not None
    assert read(path)[1][1:] == (
        number,
        {"loss": 2.5, "lr": pytest.approx(0.05), "words_per_s": 1e6},
    )


@pytest.mark.slow  # trains whole runs
def test_a_run_and_one_that_goes_on_have_their_metrics_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.txt").write_text("the king and the queen of france sat in paris\n" * 60)
    config = config_of(
        *SHORT,
        f"corpus.path={tmp_path}/toy.txt",
        f"data_dir={tmp_path}/data",
        f"run_dir={tmp_path}/run",
    )
    monkeypatch.setattr(checkpoint, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    with monkeypatch.context() as patch:
        patch.setattr(train_stage, "log_evaluation", stop_after_an_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_stage.train(config)
    assert list((tmp_path / "run").glob("checkpoint-*.json"))
    folder = train_stage.train(config)
    [path] = folder.glob("events.*")
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    first, *records = read(path)
    assert first[1:] == (0, {}) and b"brain.Event:2" in path.read_bytes()
    assert [step for _, step, _ in records] == [line["words_seen"] for line in metrics]
    losses = [scalars["loss"] for _, _, scalars in records if "loss" in scalars]
    assert losses == pytest.approx(
        [line["loss"] for line in metrics if line["event"] == "progress"], rel=1e-6
    )
    began = int(path.name.split(".")[3])
    assert [when - began for when, _, _ in records] == pytest.approx(
        [line["elapsed_s"] for line in metrics], abs=1e-6
    )


LOG_EVALUATION = log_evaluation


def stop_after_an_epoch(
    evaluation: dict[str, Any], meter: Progress, epoch: int, *rest: Any
) -> None:
    LOG_EVALUATION(evaluation, meter, epoch, *rest)
    if epoch:
        raise KeyboardInterrupt


def test_the_log_does_not_change_which_run_it_is() -> None:
    assert run_folder(config_of("train.log=tensorboard", "train.resume=never")) == run_folder(
        config_of()
    )
