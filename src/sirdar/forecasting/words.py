# SPDX-License-Identifier: Apache-2.0
"""The words of text that names each series alone, such as a description: what products share, in sparse columns."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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


def _words(panel: Panel, columns: Sequence[str]) -> list[set[str]]:
    present = [panel.static[name] for name in columns if name in panel.static]
    return [
        {word for column in present if column[row] is not None for word in _WORD.findall(str(column[row]).lower())}
        for row in range(len(panel))
    ]
