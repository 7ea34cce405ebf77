"""A model's tensors in one safetensors file, whichever process holds which columns."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, uint8

from w2v_inf import compose, distributed
from w2v_inf.config import Config
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.files import read_text, write_atomically
from w2v_inf.models.build import build_model
from w2v_inf.models.column_parallel import ColumnShard
from w2v_inf.models.linear import copy_rows
from w2v_inf.models.protocol import Model
from w2v_inf.runs.folder import CONFIG, STATE, VOCABULARY, Summary
from w2v_inf.system_errors import is_out_of_memory, system_error

DTYPES = {"torch.float64": "F64", "torch.float32": "F32", "torch.bfloat16": "BF16"}
"""The names of safetensors."""
TRAIN_AGAIN = "restore the file from a copy, or train again with another run_dir"


def save_model(path: Path, model: Model, state: dict[str, Tensor] | None = None) -> None:
    """Write the model's tensors. All processes call this; only the main one writes.

    state: of the model, if the caller has it.
    Raises: UserError, in the process that writes, if the file cannot be written; no part of it is
      then left behind.
    """
    if not isinstance(model, ColumnShard):
        state = model.state() if state is None else state
        tensors = {name: _on_cpu(tensor) for name, tensor in state.items()}
        write_atomically(path, lambda draft: save_file(tensors, draft))
        return
    blocks = model.whole_blocks()
    try:
        if distributed.is_main_process():
            write_atomically(path, lambda draft: _write(draft, model, blocks))
    finally:
        # Every process takes part in gathering every block, even after writing has failed.
        for _ in blocks:
            pass


def _on_cpu(tensor: Tensor) -> Tensor:
    """The tensor, contiguous on the CPU; copied only if it is not so already."""
    if tensor.device.type == "cpu":
        return tensor.contiguous()
    return copy_rows(tensor, torch.empty(tensor.shape, dtype=tensor.dtype))


def _write(path: Path, model: ColumnShard, blocks: Iterator[Tensor]) -> None:
    """Write the safetensors format by hand.

    The library wants whole tensors, and memory may not hold even one of them.
    """
    header, end = {}, 0
    for name, shape in model.whole_shapes().items():
        dtype = model.state()[name].dtype
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": DTYPES[str(dtype)], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for block in blocks:
            file.write(block.contiguous().view(uint8).numpy().data)


def load_state(folder: Path, model: Model) -> None:
    """Load the tensors of a run folder into the model; the file is mapped, not read whole.

    Raises: UserError if the file is missing or damaged.
    """
    path = folder / STATE
    if not path.exists():
        raise UserError(f"{path} not found: run w2v-inf train run_dir={folder} first")
    try:
        path.open("rb").close()  # safetensors does not say why it cannot open a file
        model.load(load_file(path))
    except OSError as error:
        raise system_error(path, error, "read") from error
    except (SafetensorError, RuntimeError, KeyError) as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"{path} is damaged ({str(error).splitlines()[0]}): {TRAIN_AGAIN}"
        ) from error


def load_vocabulary(path: Path) -> Vocabulary:
    """The words of a run. Their file is that of an encoded corpus, which could be made again."""
    read_text(path)  # says why a file cannot be read
    try:
        return Vocabulary.load(path)
    except UserError as error:
        reason = str(error).partition(": delete ")[0]
        raise UserError(f"{reason}: {TRAIN_AGAIN}") from error


def open_run(folder: Path, machine: Config) -> tuple[Model, Vocabulary]:
    """The trained model of a finished run, on the device of `machine`, and its vocabulary."""
    Summary.load(folder)  # refuses an unfinished run
    config = compose.read(folder / CONFIG)
    config.device = machine.device
    vocab = load_vocabulary(folder / VOCABULARY)
    model = build_model(config, len(vocab), loading=True)
    load_state(folder, model)
    return model, vocab
