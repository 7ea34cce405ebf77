"""Write a finished run's vectors for other programs (run_dir=FOLDER export.format=text|binary|gensim export.dimension=300)."""

from w2v_inf.cli import run
from w2v_inf.export import export

if __name__ == "__main__":
    run(export)
