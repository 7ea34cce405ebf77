"""How long does it take to tokenise, count and encode a text, and in how much memory?

    python benchmarks/encode.py [FILE] [--json RESULT] [--repeats N]

The default text is the sample corpus, repeated to about 100 MB. First, the first megabyte is
compared with the reference implementation. CPU seconds are those of all threads. Peak memory is
that of the process, imports included.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from w2v_inf.config import Sample
from w2v_inf.corpus.archives import read_text_file
from w2v_inf.corpus.encode import encode
from w2v_inf.corpus.encoded_folder import Origin
from w2v_inf.corpus.load import open_corpus
from w2v_inf.corpus.sources import describe
from w2v_inf.files import sha256
from w2v_inf.reference.encoding import encode_slowly

ORIGIN = Origin("benchmark", "benchmark", "", "", "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "file", nargs="?", type=Path, help="plain text; default: the sample corpus, repeated"
    )
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = args.file or write_repeated_sample(Path(folder) / "sample.txt", 100_000_000)
        check(text, Path(folder))
        result = measure(text, Path(folder), args.repeats)
    print("\n".join(f"{name:20}{value}" for name, value in result.items()))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def write_repeated_sample(path: Path, size_bytes: int) -> Path:
    text = b"".join(b" ".join(line.split()) + b"\n" for line in describe(Sample(), Path()).read())
    with path.open("wb") as file:
        for _ in range(size_bytes // len(text) + 1):
            file.write(text)
    return path


def check(text: Path, folder: Path) -> None:
    """Compare the first megabyte with the reference implementation."""
    with text.open("rb") as file:
        start = file.read(1_000_000).rpartition(b" ")[0]
    encode([start], folder / "check", ORIGIN)
    corpus = open_corpus(folder / "check")
    fast = [
        corpus.tokens.tolist(),
        corpus.documents.tolist(),
        corpus.vocab.words,
        corpus.vocab.counts.tolist(),
    ]
    if fast != list(encode_slowly(start)):
        raise SystemExit("encode disagrees with its reference implementation")


def measure(text: Path, folder: Path, repeats: int) -> dict[str, object]:
    """Median CPU and wall seconds of the whole encode."""
    times = [timed(read_text_file(text, sha256(text)), folder / f"run{i}") for i in range(repeats)]
    cpu_s, wall_s = (statistics.median(column) for column in zip(*times, strict=True))
    corpus = open_corpus(folder / "run0")
    return {
        "file": text.name,
        "bytes": text.stat().st_size,
        "tokens": len(corpus.tokens),
        "types": len(corpus.vocab),
        "cpu_s": round(cpu_s, 2),
        "wall_s": round(wall_s, 2),
        "mb_per_cpu_s": round(text.stat().st_size / 1e6 / cpu_s, 1),
        "peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "repeats": repeats,
    }


def timed(chunks: Iterator[bytes], folder: Path) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    encode(chunks, folder, ORIGIN)
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    main()
