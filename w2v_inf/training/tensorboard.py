"""TensorBoard's event file: the numbers of metrics.jsonl, for train.log=tensorboard.

Decisions:
- metrics.jsonl is the record. A new event file repeats all of its lines and hides those of earlier
  event files (`purge_step`). A resumed run thus shows every step once.
- A step is a word of the text: runs with other batch sizes then share an axis.
- Times are training times, counted from the start of the run: pauses do not show.
"""

import json
import time
from pathlib import Path
from typing import Any

from w2v_inf.errors import UserError
from w2v_inf.runs.folder import METRICS
from w2v_inf.system_errors import system_error

SCALARS = ("loss", "lr", "words_per_s")


def import_writer() -> Any:
    """torch's SummaryWriter. Raises: UserError if the package tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # optional, and takes a second
    except ImportError as error:
        raise UserError(
            "train.log=tensorboard needs the package tensorboard: "
            "pip install 'w2v_inf[tensorboard]', or train.log=jsonl"
        ) from error
    return SummaryWriter


class EventFile:
    """A new event file in a run folder, which begins with the lines of metrics.jsonl so far."""

    def __init__(self, folder: Path) -> None:
        lines = [json.loads(text) for text in (folder / METRICS).read_text().splitlines()]
        self._writer = import_writer()(folder, purge_step=0)
        self._began = time.time() - (lines[-1]["elapsed_s"] if lines else 0.0)
        for line in lines:
            self.add(line)

    def add(self, line: dict[str, Any]) -> None:
        """Add a line of metrics.jsonl. Raises: UserError if the file cannot be written."""
        try:
            for name, value in _scalars(line).items():
                if value is not None:
                    when = self._began + line["elapsed_s"]
                    self._writer.add_scalar(name, value, line["words_seen"], when)
            self._writer.flush()
        except OSError as error:
            path = f"the event file of train.log=tensorboard in {self._writer.log_dir}"
            raise system_error(path, error, "written") from error

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


def _scalars(line: dict[str, Any]) -> dict[str, float | None]:
    """The line's numbers by TensorBoard's tag."""
    if line["event"] == "progress":
        return {name: line[name] for name in SCALARS}
    rules = {"3cosadd": line["analogy"], "3cosmul": line["analogy_3cosmul"]}
    scalars = {f"analogy/{rule}": parts["total"]["accuracy"] for rule, parts in rules.items()}
    similarity = line["similarity"].items()
    return scalars | {f"similarity/{name}": result["spearman"] for name, result in similarity}
