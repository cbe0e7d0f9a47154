# SPDX-License-Identifier: Apache-2.0
"""Words and topics of descriptions on texts whose answer is plain, and topics against numpy's own decomposition."""

import json
from dataclasses import asdict, replace

import numpy as np

from sirdar.forecasting import storage
from sirdar.forecasting.covariates import Encoding
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.words import Topics, Words
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


def test_topics_are_near_for_products_of_a_kind() -> None:
    panel = described()
    found = Topics.fit(panel, [], most=3).channels(panel)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    likeness = unit @ unit.T
    alike = (np.arange(len(panel)) % 3)[:, None] == (np.arange(len(panel)) % 3)
    assert likeness[alike].mean() > 0.8
    assert likeness[~alike].mean() < 0.2


def test_topics_span_the_leading_singular_vectors() -> None:
    panel = described()
    present = Words.fit(panel, []).matrix(panel).toarray()
    weighed = present * np.log(len(panel) / present.sum(axis=0))
    left, _, _ = np.linalg.svd(weighed, full_matrices=False)
    found = Topics.fit(panel, [], most=3).channels(panel)
    np.testing.assert_allclose((found**2).mean(axis=0), 1.0, rtol=1e-4)
    projected = left[:, :3] @ (left[:, :3].T @ found)
    np.testing.assert_allclose(projected, found, atol=1e-4)


def test_few_words_make_no_topics() -> None:
    panel = replace(described(), static={"description": np.array(["RED MUG", "BLUE MUG"] * 120, dtype=object)})
    assert Topics.fit(panel, []) == Topics()
    assert Topics().channels(panel).shape == (240, 0)


def test_an_unknown_text_is_about_nothing() -> None:
    topics = Topics.fit(described(), [], most=3)
    unknown = replace(
        described(6), static={"description": np.array([None, "", "Ünïcode", "42", "x", "MUG"], dtype=object)}
    )
    found = topics.channels(unknown)
    assert (found[:5] == 0).all()
    assert (found[5] != 0).any()


def test_topics_are_stored_with_the_encoding() -> None:
    panel = described()
    encoding = Encoding.fit(panel, topics=True)
    assert len(encoding.topics.loadings) == 0  # 20 words are too few for 16 topics
    encoding = replace(encoding, topics=Topics.fit(panel, [], most=3))
    assert storage.as_encoding(json.loads(json.dumps(asdict(encoding)))) == encoding
    assert encoding.static_channels(panel).shape == (240, 3)
