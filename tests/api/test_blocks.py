"""More queries than are answered at a time: nobody is lost where a block ends, and every answer keeps its name."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sparcode import SparCode

MANY = 9_001
"""More than two blocks of 4,096, and the last one not full."""


def test_users_behind_the_first_block_get_their_own_answers(model: SparCode):
    known = [f"u{number:03d}" for number in range(120)]
    users = [known[number % 113] for number in range(MANY)]  # 113 divides no block: a shift would show
    wanted, wanted_scores = model.recommend(users=known, k=4)
    place = [known.index(user) for user in users]
    ids, scores = model.predict(users, k=4)
    assert ids.tolist() == wanted[place].tolist()
    np.testing.assert_allclose(scores, wanted_scores[place], rtol=1e-5)

    table = pa.concat_tables(model.predict_tables(users, k=4))
    assert table["user_id"].to_pylist() == np.repeat(users, 4).tolist()
    assert table["item_id"].to_pylist() == wanted[place].ravel().tolist()
    assert table["rank"].to_pylist() == [0, 1, 2, 3] * MANY
