# SPDX-License-Identifier: Apache-2.0
"""The words of text that names each series alone, such as a description, as sparse columns or as a few topics."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy import sparse

from sirdar.forecasting.panel import Panel

_MOST = 256
_SHARED_BY = 5  # series, and one in 500
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Words:
    """Which words become columns.

    Args:
        columns: names of the text statics that they are looked for in.
        words: the commonest that enough series share, lower case.
    """

    columns: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @classmethod
    def fit(cls, panel: Panel, categories: Sequence[str]) -> "Words":
        """The words of the panel's text statics other than `categories`."""
        columns = tuple(
            name for name, column in panel.static.items() if column.dtype == object and name not in categories
        )
        tally = Counter(word for words in _words(panel, columns) for word in words)
        least = max(_SHARED_BY, len(panel) / 500)
        common = sorted(
            (word for word, count in tally.items() if count >= least), key=lambda word: (-tally[word], word)
        )
        return cls(columns, tuple(common[:_MOST]))

    def matrix(self, panel: Panel) -> sparse.csr_matrix:
        """float32 [series, word]: 1 where the series' text has the word."""
        number = {word: index for index, word in enumerate(self.words)}
        found = [sorted(number[word] for word in words if word in number) for words in _words(panel, self.columns)]
        indptr = np.concatenate([[0], np.cumsum([len(words) for words in found])]).astype(np.int64)
        indices = np.array([index for words in found for index in words], dtype=np.int32)
        data = np.ones(len(indices), dtype=np.float32)
        return sparse.csr_matrix((data, indices, indptr), shape=(len(panel), len(self.words)))


@dataclass(frozen=True)
class Topics:
    """Latent semantic analysis: a few numbers that are close for texts with related words.

    Deerwester et al. (1990), "Indexing by Latent Semantic Analysis", Journal of the American Society for Information
    Science 41(6), with rare words weighing more. So a network learns from the names of products that it has seen what
    to expect of one that it has not.

    Args:
        words: what is counted.
        loadings: by topic, a weight for each word; topics have unit spread over the series learned from.
    """

    words: Words = Words()
    loadings: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def fit(cls, panel: Panel, categories: Sequence[str], most: int = 16) -> "Topics":
        """The leading topics of the panel's text statics other than `categories`; none if words are few."""
        words = Words.fit(panel, categories)
        if len(words.words) < 2 * most:
            return cls()
        present = words.matrix(panel)
        rarity = np.log(len(panel) / np.asarray(present.sum(axis=0)).ravel())
        weighed = present.multiply(rarity).tocsr()
        _, directions = np.linalg.eigh((weighed.T @ weighed).toarray().astype(np.float64))
        chosen = directions[:, ::-1][:, :most]
        chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(most)])
        spread = np.maximum(np.sqrt((np.asarray(weighed @ chosen) ** 2).mean(axis=0)), 1e-6)
        loadings = (rarity[:, None] * chosen / spread).T.astype(np.float32)
        return cls(words, tuple(tuple(map(float, row)) for row in loadings))

    def channels(self, panel: Panel) -> Float32[np.ndarray, "series topic"]:
        """What the text of each series is about; zeros where no word is known."""
        if not self.loadings:
            return np.zeros((len(panel), 0), dtype=np.float32)
        return np.asarray(self.words.matrix(panel) @ np.array(self.loadings, dtype=np.float32).T)


def _words(panel: Panel, columns: Sequence[str]) -> list[set[str]]:
    present = [panel.static[name] for name in columns if name in panel.static]
    return [
        {word for column in present if column[row] is not None for word in _WORD.findall(str(column[row]).lower())}
        for row in range(len(panel))
    ]
