"""Do our finite nets reach the accuracy of the tool people use? gensim's vectors on the same text, under our evaluation.

CBOW or skip-gram with the paper's window, negatives, threshold and step size; gensim has no weight decay, starts from
uniform +-1/(2n) input vectors and updates position by position. Prints and writes one row; run our side with
scripts/train.py and the same options.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from gensim.models import Word2Vec

from w2v_inf.analogy import analogy_accuracy, load_questions
from w2v_inf.config import Architecture, Config, Sample, StreamConfig, TextFile
from w2v_inf.corpus import EncodedCorpus, open_corpus, prepare, select_vocabulary
from w2v_inf.models import LinearModel
from w2v_inf.stream import CHUNK


class Sentences:
    """Documents in chunks of 1,000 words, as gensim reads them; again for each epoch."""

    def __init__(self, corpus: EncodedCorpus) -> None:
        self.corpus = corpus

    def __iter__(self) -> Iterator[list[str]]:
        words, documents = self.corpus.vocab.words, self.corpus.documents
        for start, end in zip(documents[:-1], documents[1:], strict=True):
            for i in range(start, end, CHUNK):
                yield [words[t] for t in self.corpus.tokens[i : min(i + CHUNK, end)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", help="a text file, one document a line; default: the sample corpus")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--architecture", choices=[a.value for a in Architecture], default="cbow")
    parser.add_argument("--max-vocab", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    options = TextFile(path=args.text, max_vocab=args.max_vocab) if args.text else Sample(max_vocab=args.max_vocab)
    config = Config(corpus=options, stream=StreamConfig(architecture=Architecture(args.architecture)))
    corpus = open_corpus(prepare(options, Path(config.data_dir)))
    vocab = select_vocabulary(corpus, options)
    start, cpu = time.perf_counter(), time.process_time()
    gensim = Word2Vec(
        Sentences(corpus),
        vector_size=args.width,
        epochs=args.epochs,
        sg=int(args.architecture == "skipgram"),
        window=config.stream.window,
        negative=config.stream.num_negatives,
        sample=config.stream.subsample_threshold,
        alpha=config.train.lr,
        min_count=options.min_count,
        max_final_vocab=args.max_vocab or None,
        workers=args.threads,
        seed=args.seed,
    )
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    missing = [word for word in vocab.words if word not in gensim.wv]
    assert not missing, f"gensim lacks {len(missing)} words of our vocabulary"
    u = torch.from_numpy(gensim.wv[vocab.words])
    accuracy = analogy_accuracy(LinearModel(u, u), load_questions(vocab), ("3cosadd",))["3cosadd"]
    row = vars(args) | {"json": None, "vocabulary": len(vocab), "wall_s": wall_s, "cpu_s": cpu_s}
    row |= {part: accuracy[part]["accuracy"] for part in ("total", "semantic", "syntactic")}
    print(json.dumps(row))
    if args.json:
        args.json.write_text(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
