"""w2v_inf trains word2vec at infinite width, beside finite networks on one stream of examples.

For notebooks: `train`, `load` and `Embeddings` (api.py, docs/notebook.md).
For a shell: the command `w2v-inf` (cli.py).

The flow, in the order to read: config (options), corpus (text to tokens), stream (tokens to
batches), models (models/step.py is the update rule), training, evaluation, runs (the run folder),
reporting, export, reproduce. theory/ checks predictions, reference/ has the slow implementations
that tests compare with.
"""

import os
from importlib import metadata
from typing import TYPE_CHECKING, Any

from w2v_inf.errors import NO_WINDOWS

if TYPE_CHECKING:
    from w2v_inf.api import Embeddings, load, train

__all__ = ["Embeddings", "load", "train"]


def __getattr__(name: str) -> Any:
    # Lazily: a command would otherwise import all that the notebook interface needs.
    if name == "__version__":
        return metadata.version("w2v_inf")
    if name not in __all__:
        raise AttributeError(f"module 'w2v_inf' has no attribute {name!r}")
    if os.name == "nt":
        raise ImportError(NO_WINDOWS)
    from w2v_inf import api

    return getattr(api, name)
