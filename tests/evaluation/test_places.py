"""The file of places: a damaged one is one line of error."""

import numpy as np
from fake_runs import make_run

from w2v_inf.errors import UserError
from w2v_inf.evaluation.places import Places


def test_no_damage_to_places_is_a_traceback(tmp_path):
    path = tmp_path / "places.npz"
    whole = (make_run(tmp_path / "a", width=64) / "places.npz").read_bytes()
    rng = np.random.default_rng(0)
    cut = [whole[:length] for length in range(0, len(whole), 53)]
    flipped = [
        whole[:i] + bytes([rng.integers(256)]) + whole[i + 1 :]
        for i in rng.integers(len(whole), size=300)
    ]
    refused = 0
    for damaged in [*cut, *flipped]:
        path.write_bytes(damaged)
        try:
            Places.load(path)
        except UserError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert refused > 0.8 * (len(cut) + len(flipped))  # some bytes are dates and the like
