# SPDX-License-Identifier: Apache-2.0
"""Claim: before anything is rented, the advisor says what a night or a service costs, and ranks as AWS's own rows do.

It answers for MQ-CNN at 400 million series a night and for BERT-base and ResNet-50 (traced from `transformers`, random
weights) at 1,000 requests a second. With `--data DIR` (a folder with `neuron/`): cost of an inference, published
throughput and hourly price against predicted throughput and the same price; once with each architecture predicted from
the others, once with the shares of the catalogue, which were fitted to some of these rows. Writes
`results/chips/advise.json`.
"""

import argparse
import csv
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import chips_networks
import torch
from chips_analytic import neuron
from scipy.stats import spearmanr
from store import bar, store

from sirdar.chips import Ranking, advise
from sirdar.recipes.plan import example_network
from sirdar.workload.graph import Graph
from sirdar.workload.trace import trace

NIGHT, SERIES, RATE, BATCH, LIMIT_S = 400e6, 4096, 1000.0, 8, 0.1
SAME = 0.05  # costs nearer than this are no ranking: the same row in two tables differs by as much


def main() -> None:
    """Advise three times, compare, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with neuron/")
    data = parser.parse_args().data
    if data is None or not (data / "neuron").is_dir():
        print("skipped: give --data DIR with neuron/, AWS's rows, which are not in the project")
        return
    module, example = example_network(None).inference(SERIES)
    bert, resnet = traced()
    off = {"bert-base": counted(bert, chips_networks.encoder(12, 768, BATCH, 128))}
    off["resnet-50"] = counted(resnet, chips_networks.resnet((3, 4, 6, 3), BATCH, wide=True))
    answers = {
        "MQ-CNN, 400 million series a night": advise(trace(module, example), per_day=NIGHT),
        "BERT-base, 1,000 requests a second": advise(bert, per_s=RATE, latency_s=LIMIT_S),
        "ResNet-50, 1,000 requests a second": advise(resnet, per_s=RATE, latency_s=LIMIT_S),
    }
    report({name: told(ranking) for name, ranking in answers.items()}, off, costs(data / "neuron"))


def traced() -> tuple[Graph, Graph]:
    """BERT-base on 128 tokens and ResNet-50 on 224 x 224 pixels, at the batch."""
    from transformers import BertConfig, BertModel, ResNetConfig, ResNetForImageClassification

    tokens = torch.zeros(BATCH, 128, dtype=torch.long)
    bert = BertModel(BertConfig(attn_implementation="sdpa"), add_pooling_layer=False)
    resnet = ResNetForImageClassification(ResNetConfig(num_labels=1000))
    return trace(bert, (tokens,)), trace(resnet, (torch.zeros(BATCH, 3, 224, 224),))


def counted(graph: Graph, closed: Graph) -> float:
    """Relative difference of multiply-accumulates between a trace and the closed form."""
    return round(abs(graph.macs / closed.macs - 1), 5)


def told(ranking: Ranking) -> dict[str, Any]:
    """What the advisor says, without the long notes."""
    keys = (
        "chip",
        "instance",
        "machines",
        "dtype",
        "price_usd",
        "energy_j",
        "grams_co2",
        "latency_s",
        "pareto",
        "reason",
    )
    rows = [{key: row[key] for key in keys} for row in ranking.to_rows()]
    best = ranking.best
    return {
        "best": None if best is None else best.title,
        "saving_against_g5_xlarge": round(ranking.against("g5.xlarge").price, 4),
        "options": [{k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows],
        "assumptions": list(ranking.assumptions),
    }


def costs(folder: Path) -> list[dict[str, Any]]:
    """Dollars for a million inferences of every row whose instance has a published price, the best batch of each."""
    prices: dict[str, float] = {}
    for path in sorted((folder / "benchmarks").glob("*_instance_prices.csv")):
        with path.open(encoding="utf-8") as file:
            prices |= {row[0].lower(): float(row[1]) for row in list(csv.reader(file))[1:] if len(row) == 2}
    rows, _ = neuron(folder / "neuron_benchmarks_unified.csv")
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        instance = row["instance"].lower()
        if instance not in prices or "training" in row["group"]:
            continue
        per_s = {key: row[f"{key}_per_s"] for key in ("published", "predicted", "catalogue")}
        million = {key: prices[instance] / 3600 / rate * 1e6 for key, rate in per_s.items()}
        found = {"model": row["model"], "architecture": row["architecture"], "instance": instance, **million}
        key = (row["architecture"], instance)
        if key not in best or million["published"] < best[key]["published"]:
            best[key] = found
    return list(best.values())


def report(answers: dict[str, Any], off: dict[str, float], rows: list[dict[str, Any]]) -> None:
    """Store the bars."""
    rho = float(spearmanr([row["published"] for row in rows], [row["predicted"] for row in rows])[0])
    by_architecture: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_architecture[row["architecture"]].append(row)
    pairs = [pair for members in by_architecture.values() for pair in combinations(members, 2)]
    telling = [(a, b) for a, b in pairs if abs(a["published"] / b["published"] - 1) > SAME]
    agreeing, own = (
        [(a, b) for a, b in telling if (a["published"] < b["published"]) == (a[key] < b[key])]
        for key in ("predicted", "catalogue")
    )
    own_rho = float(spearmanr([row["published"] for row in rows], [row["catalogue"] for row in rows])[0])
    first = [min(m, key=lambda row: row["published"]) for m in by_architecture.values() if len(m) > 1]
    picks = [min(by_architecture[row["architecture"]], key=lambda other: other["predicted"]) is row for row in first]
    bars = [
        bar("answers given", sum(answer["best"] is not None for answer in answers.values()), 3, better="higher"),
        bar("cost of an inference over AWS's rows, Spearman", rho, 0.9, better="higher"),
        bar("cost of an inference by the catalogue's shares, Spearman", own_rho, 0.9, better="higher"),
        bar("pairs of instances ranked as published", len(agreeing) / len(telling), 0.9, better="higher"),
        bar("pairs ranked as published by the catalogue's shares", len(own) / len(telling), 0.9, better="higher"),
        bar("trace against closed form, worst difference of multiply-accumulates", max(off.values()), 0.01),
    ]
    measured = {
        "answers": answers,
        "multiply_accumulates_off": off,
        "cost_rows": len(rows),
        "pairs": len(telling),
        "pairs_agreeing": len(agreeing),
        "disagreements": [
            {"architecture": a["architecture"], "instances": [a["instance"], b["instance"]]}
            for a, b in telling
            if (a, b) not in agreeing
        ],
        "cheapest_instance_found": f"{sum(picks)} of {len(picks)} networks",
        "usd_per_million": [
            {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows
        ],
    }
    claim = (
        "Before anything is rented, the advisor says what a night or a service costs, and ranks as AWS's own rows do"
    )
    store("chips/advise", claim, "python benchmarks/chips_advise.py --data DIR", measured, bars)


if __name__ == "__main__":
    main()
