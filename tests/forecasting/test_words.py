# SPDX-License-Identifier: Apache-2.0
"""Words of descriptions on texts whose answer is plain."""

from dataclasses import replace

import numpy as np

from sirdar.forecasting.panel import Panel
from sirdar.forecasting.words import Words
from sirdar.testing.forecasters import panel_of

KINDS = {
    "kitchen": ["mug", "plate", "bowl", "spoon", "kettle", "pan"],
    "garden": ["spade", "seed", "hose", "rake", "pot", "bench"],
    "paper": ["card", "wrap", "pen", "pencil", "envelope", "stamp"],
}


def described(count: int = 240, seed: int = 0) -> Panel:
    """Every product has three words of its kind and a colour that all kinds share."""
    rng = np.random.default_rng(seed)
    kinds = list(KINDS)
    texts = []
    for row in range(count):
        words = rng.choice(KINDS[kinds[row % 3]], 3, replace=False)
        texts.append(f"{rng.choice(['RED', 'BLUE'])} {' '.join(words)} {row}x".upper())
    panel = panel_of([[1.0, 2.0]] * count)
    return replace(panel, static={"description": np.array(texts, dtype=object)})


def test_words_that_few_share_are_left_out() -> None:
    panel = described()
    words = Words.fit(panel, [])
    assert set(words.words) == {word for kind in KINDS.values() for word in kind} | {"red", "blue"}
    matrix = words.matrix(panel).toarray()
    assert (matrix.sum(axis=1) == 4).all()
    for row in (0, 100):
        text = str(panel.static["description"][row]).lower()
        assert {word for word, there in zip(words.words, matrix[row], strict=True) if there} == set(text.split()[:4])


def test_an_unknown_text_has_no_words() -> None:
    words = Words.fit(described(), [])
    texts = np.array([None, "", "Ünïcode", "42", "x", "MUG"], dtype=object)
    found = words.matrix(replace(described(6), static={"description": texts})).toarray()
    assert (found[:5] == 0).all()
    assert found[5].sum() == 1
