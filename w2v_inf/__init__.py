"""w2v_inf: the infinite-width limits of word2vec beside finite nets, on one stream of examples.

For notebooks: `train`, `load` and `Embeddings` (api.py; docs/notebook.md shows them).

Read in this order: config (options), corpus (text to tokens), vocab, stream (examples), models (step.py is the update rule),
reference (its slow twin), analogy and evaluate, training and checkpoint, assess, vectors and export, runs, plots, findings, report,
reproduce.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from w2v_inf.api import Embeddings, load, train

from w2v_inf.kernel_cache import separate_caches

# Threads that wait by spinning take 20 to 60 times as long as one alone when anything else runs on the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
separate_caches()

__all__ = ["Embeddings", "load", "train"]


def __getattr__(name: str) -> Any:
    # Not imported above: each script would otherwise import what all of them need.
    if name not in __all__:
        raise AttributeError(f"module 'w2v_inf' has no attribute {name!r}")
    from w2v_inf import api

    return getattr(api, name)
