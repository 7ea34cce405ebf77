"""w2v_inf: the infinite-width limits of word2vec beside finite nets, on one stream of examples.

Read in this order: config (options), corpus (text to tokens), vocab, stream (examples), models (step.py is the update rule),
reference (its slow twin), analogy and evaluate, train, assess, runs, plots, findings, report, reproduce.
"""
