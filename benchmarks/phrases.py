"""What do phrases cost beside encoding, and beside gensim's Phrases on the same text?

    python benchmarks/phrases.py FILE [--json RESULT] [--gensim]

FILE is plain text. Each row is a process of its own: CPU seconds of its work, without imports and
compilation, and its peak memory, with them. With --gensim, gensim joins one pass at the same
threshold. It must write the same words; at 100 MB this takes minutes.
"""

import argparse
import hashlib
import itertools
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from w2v_inf.corpus.archives import read_text_file
from w2v_inf.corpus.encode import encode
from w2v_inf.corpus.encoded_folder import Origin
from w2v_inf.corpus.load import open_corpus
from w2v_inf.corpus.phrases import PhraseRule, encode_phrases
from w2v_inf.files import sha256

ORIGIN = Origin("benchmark", "benchmark", "", "", "")
RULE = PhraseRule(1, 100.0, 5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="plain text")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--gensim", action="store_true", help="compare with gensim")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "warm.txt").write_text("a b c\n" * 100)
        encode_plain(folder / "warm.txt", folder / "warm")
        join(folder / "warm", folder / "warm1", 1)  # compiles into the cache of kernels
        rows = {"encode": measured(partial(encode_plain, args.file, folder / "plain"))}
        for passes in (1, 2):
            work = partial(join, folder / "plain", folder / str(passes), passes)
            rows[f"phrases={passes}, after encode"] = measured(work)
        if args.gensim:
            rows["gensim, one pass"] = measured(partial(join_by_gensim, args.file, folder / "sha"))
            if (folder / "sha").read_text() != digest_of(joined_lines(folder / "1")):
                raise SystemExit("phrases disagree with gensim's")
    for row, (cpu_s, peak_bytes) in rows.items():
        print(f"{row:28}{cpu_s:8.1f} CPU s{peak_bytes / 1e9:8.2f} GB peak")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


def measured(work: Callable[[], None]) -> tuple[float, int]:
    """CPU seconds and peak bytes of `work` in a new process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(run, (work,))


def run(work: Callable[[], None]) -> tuple[float, int]:
    start = time.process_time()
    work()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.process_time() - start, 1024 * usage.ru_maxrss


def encode_plain(text: Path, folder: Path) -> None:
    encode(read_text_file(text, sha256(text)), folder, ORIGIN)


def join(plain: Path, folder: Path, passes: int) -> None:
    encode_phrases(open_corpus(plain), folder, RULE._replace(passes=passes))


def join_by_gensim(text: Path, result: Path) -> None:
    """Write the checksum of the lines that gensim joins."""
    from gensim.models.phrases import Phrases

    with text.open() as lines:
        model = Phrases(map(str.split, lines), min_count=RULE.min_count, threshold=1e-9)
    # gensim scales by distinct words and pairs, we by words.
    model.threshold = RULE.threshold * len(model.vocab) / model.corpus_word_count
    frozen = model.freeze()
    print(
        f"gensim: its threshold 10 is ours of {10 * RULE.threshold / model.threshold:.1f}, "
        f"{len(frozen.phrasegrams):,} phrases"
    )
    with text.open() as lines:
        documents = (list(frozen[line.split()]) for line in lines if line.split())
        result.write_text(digest_of(" ".join(document) for document in documents))


def joined_lines(folder: Path) -> Iterator[str]:
    corpus = open_corpus(folder)
    for start, end in itertools.pairwise(corpus.documents):
        yield " ".join(corpus.vocab.words[i] for i in corpus.tokens[start:end])


def digest_of(lines: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


if __name__ == "__main__":
    main()
