"""Vectors from wherever they lie: a file of word2vec's formats, or an exported folder."""

from pathlib import Path

import numpy as np

from w2v_inf.config import VectorFormat
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.vector_folders.folder import CONFIG, read_config
from w2v_inf.vector_folders.hub import read_hub
from w2v_inf.vector_folders.projector import read_projector
from w2v_inf.word2vec_format import read_vectors

READERS = {VectorFormat.hub: read_hub, VectorFormat.projector: read_projector}


def read_file_or_folder(path: Path) -> tuple[Vocabulary, np.ndarray]:
    """Words, the commonest first, and their vectors [V, D] float32.

    Raises: UserError that names the file, and says what is wrong with it.
    """
    if not path.is_dir():
        return read_vectors(path)
    if not (path / CONFIG).exists():
        raise UserError(
            f"{path} holds no exported vectors (it has no {CONFIG}): "
            "give a folder that w2v-inf export wrote, or a file of word2vec's format"
        )
    config = read_config(path)
    return READERS[VectorFormat(config["format"])](path, config)
