# SPDX-License-Identifier: Apache-2.0
"""Claim: for products without any history, MQ-CNN beats the mean of their category.

The bundled panel; a tenth of the products whose sales began after the first eight weeks of the table is held out
wholly. MQ-CNN learns from all the others and forecasts the first eight weeks of those held out from what is known of a
product before it is sold: description, price, calendar; by its network and by look-alikes, in shares that the launches
it learned from tell, and for comparison by its network alone. Against it stand two baselines made of the launches that
the network learned from, per week since launch, in the category of the product (the last word of its description if at
least ten launches share it, else all launches): the mean, and the quantiles. Quantiles 0.1 to 0.9. Writes
`results/forecasting/coldstart.json`; with --folds, other products are held out, to develop on, and nothing is stored.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from store import bar, store

from sirdar.forecasting.bundled import ONLINE_RETAIL, ROLES
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.panel import Panel
from sirdar.predictive import DECILES
from sirdar.predictive.scores import wql

HORIZON, HELD_OUT, FOLD = 8, 10, 0
SEEDS = 3


def main() -> None:
    """Hold out, learn, score, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, nargs="*", help="1 to 9: which tenths to develop on")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    panel = read()
    found = {fold: measure(panel, fold, arguments.seeds) for fold in arguments.folds or [FOLD]}
    for fold, row in found.items():
        print(fold, row, flush=True)
    if arguments.folds:
        return
    row = found[FOLD]
    bars = [
        bar("WQL of the network alone over the category mean's", row["its network alone"] / row["category mean"], 0.9),
        bar("WQL over the category mean's", row["MQ-CNN"] / row["category mean"], 0.9),
        bar("WQL over the category quantiles'", row["MQ-CNN"] / row["category quantiles"], 0.9),
    ]
    claim = "MQ-CNN on the first 8 weeks of products that it never saw, against the mean of their category"
    store("forecasting/coldstart", claim, "python benchmarks/forecasting_coldstart.py", row, bars)


def read() -> Panel:
    """The bundled panel, its price known ahead."""
    roles = {name: value for name, value in ROLES.items() if name != "price"}
    return Panel.read(ONLINE_RETAIL, **roles, future=["price"])


def measure(panel: Panel, fold: int, seeds: int) -> dict[str, float]:
    """WQL of network and baselines on the held-out tenth."""
    launched = np.flatnonzero((panel.start >= panel.start.min() + HORIZON) & (np.diff(panel.indptr) >= HORIZON))
    out = launched[np.random.default_rng(0).permutation(len(launched)) % HELD_OUT == fold]
    rest = np.setdiff1d(np.arange(len(panel)), out)
    unseen, seen = panel.select(out), panel.select(rest)
    actual = beginnings(unseen)
    unborn = replace(unseen, history=np.zeros_like(unseen.history))
    networks, alone = [], []
    for seed in range(seeds):
        model = MQCNN(HORIZON, seed=seed).fit(seen)
        networks.append(wql(actual, model.predict(unborn).values, DECILES))
        assert model.learned is not None
        model.learned = replace(model.learned, alike=None)
        alone.append(wql(actual, model.predict(unborn).values, DECILES))
    old = panel.select(np.intersect1d(launched, rest))
    quantiles, mean = baselines(old, unseen)
    return {
        "products": float(len(out)),
        "MQ-CNN": float(np.mean(networks)),
        "MQ-CNN, worst seed": float(np.max(networks)),
        "its network alone": float(np.mean(alone)),
        "category mean": wql(actual, np.repeat(mean[..., None], len(DECILES), axis=-1), DECILES),
        "category quantiles": wql(actual, quantiles, DECILES),
    }


def beginnings(panel: Panel) -> np.ndarray:
    """The first steps of every series: [series, HORIZON]."""
    return panel.target[panel.indptr[:-1, None] + np.arange(HORIZON)]


def baselines(old: Panel, new: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles and means of past launches of the same category: [series, HORIZON, level], [series, HORIZON]."""
    launches = beginnings(old)
    words = [last_word(old, row) for row in range(len(old))]
    common = {word for word in set(words) if words.count(word) >= 10}
    quantiles, means = [], []
    for row in range(len(new)):
        word = last_word(new, row)
        alike = launches[[w == word for w in words]] if word in common else launches
        quantiles.append(np.nanquantile(alike, DECILES, axis=0).T)
        means.append(np.nanmean(alike, axis=0))
    return np.stack(quantiles), np.stack(means)


def last_word(panel: Panel, row: int) -> str:
    """What the product is, in most descriptions."""
    words = str(panel.static["description"][row]).split()
    return words[-1] if words else ""


if __name__ == "__main__":
    main()
