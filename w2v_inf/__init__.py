"""w2v_inf trains word2vec at infinite width, beside finite networks on one stream of examples.

For notebooks: `train`, `load` and `Embeddings` (api.py, docs/notebook.md). For your own linear
network in torch: `limit_of`, `Scale` and `Sum` (network_limit.py, docs/limit-of.md).
For a shell: the command `w2v-inf` (cli.py).

The flow, in the order to read: config (options), corpus (text to tokens), stream (tokens to
batches), models (models/step.py is the update rule), training, evaluation, runs (the run folder),
reporting, export, reproduce. theory/ checks predictions, reference/ has the slow implementations
that tests compare with.
"""

import os
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from w2v_inf.errors import NO_WINDOWS

if TYPE_CHECKING:
    from w2v_inf.api import Embeddings, load, train
    from w2v_inf.linear_network import Scale, Sum
    from w2v_inf.network_limit import limit_of

__all__ = ["Embeddings", "Scale", "Sum", "limit_of", "load", "train"]
MODULES = {"Scale": "linear_network", "Sum": "linear_network", "limit_of": "network_limit"}
"""Where public names are; the others are in api.py."""


def __getattr__(name: str) -> Any:
    # Lazily: a command would otherwise import all that the notebook interface needs.
    if name == "__version__":
        return metadata.version("w2v_inf")
    if name not in __all__:
        raise AttributeError(f"module 'w2v_inf' has no attribute {name!r}")
    if os.name == "nt":
        raise ImportError(NO_WINDOWS)
    module = import_module(f"w2v_inf.{MODULES.get(name, 'api')}")
    return getattr(module, name)
