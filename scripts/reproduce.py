"""The whole comparison: corpus, every model, figures, report (`make reproduce`). Options: w2v_inf/config.py."""

from w2v_inf.cli import run
from w2v_inf.reproduce import reproduce

if __name__ == "__main__":
    run(reproduce)
