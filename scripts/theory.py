"""Stage 6: measure what the theory predicts and write theory.html. Options: w2v_inf/config.py (corpus, plot.out)."""

from w2v_inf.cli import run
from w2v_inf.theory.page import theory

if __name__ == "__main__":
    run(theory)
