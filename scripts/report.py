"""Stage 5: one self-contained report.html from the folders of finished runs. Options: w2v_inf/config.py (plot.runs, plot.out)."""

from w2v_inf.cli import run
from w2v_inf.reporting.report import report

if __name__ == "__main__":
    run(report)
