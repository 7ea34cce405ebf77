"""The memory of the largest batch, before it is drawn; and how many batches are held at once."""

import torch

from w2v_inf.errors import UserError
from w2v_inf.models.device import free_bytes
from w2v_inf.models.memory_check import GIB
from w2v_inf.stream import BLOCK, Stream

BATCHES_AT_ONCE = 128
"""Batches per call of the model: compiled models then stay in compiled code for a while."""
MAX_BYTES_AT_ONCE = GIB // 4
"""Of such a list of batches."""


def batch_bytes(stream: Stream) -> int:
    """Memory to draw one batch: its ids, and the random numbers that its negatives come from.

    A block bounds its positions. In skip-gram a position has window + 1 pairs on average.
    """
    config = stream.config
    is_skipgram = config.architecture.value == "skipgram"
    positions = min(config.batch_size, BLOCK, len(stream.tokens))
    examples = positions * (config.window + 1 if is_skipgram else 1)
    slots = 1 if is_skipgram else 2 * config.window
    is_shared = config.group_size != 1
    rows = -(-positions // config.group_size) if is_shared else examples
    samples = config.shared_negatives if is_shared else config.num_negatives
    return 12 * rows * samples + 4 * examples * (slots + 4)


def check_batch_memory(stream: Stream) -> None:
    """Raises: UserError if the largest batch does not fit the free memory."""
    needed, free = batch_bytes(stream), free_bytes(torch.device("cpu"))
    if needed > free:
        config = stream.config
        raise UserError(
            f"a batch of stream.batch_size={config.batch_size} positions takes "
            f"{needed / GIB:.1f} GiB, cpu has {free / GIB:.1f} GiB free: lower stream.batch_size, "
            "stream.num_negatives or stream.window, or raise stream.group_size"
        )
