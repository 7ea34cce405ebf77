"""w2v_inf: the infinite-width limits of word2vec beside finite nets, on one stream of examples.

Read in this order: config (options), corpus (text to tokens), vocab, stream (examples), models (step.py is the update rule),
reference (its slow twin), analogy and evaluate, train, assess, runs, plots, findings, report, reproduce.
"""

import os

from w2v_inf.kernel_cache import separate_caches

# Threads that wait by spinning take 20 to 60 times as long as one alone when anything else runs on the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
separate_caches()
