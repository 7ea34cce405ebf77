"""Stage 4: draw figures from the folders of finished runs. Options: w2v_inf/config.py (plot.figure, plot.runs, plot.out)."""

from w2v_inf.cli import run
from w2v_inf.reporting.plot import plot_stage

if __name__ == "__main__":
    run(plot_stage)
