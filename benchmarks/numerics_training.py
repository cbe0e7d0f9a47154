# SPDX-License-Identifier: Apache-2.0
"""Claim: bf16 weights rounded stochastically train as fp32 does, at a third of the memory of bf16 with an fp32 copy.

A transformer on the characters of Python's own library, four ways from the same start on the same batches: weights of
fp32, of bf16 rounded to nearest, of bf16 rounded stochastically, and of bf16 with an fp32 copy. Computation is fp32 on
the weights as they are stored; gradients reach bf16 weights in bf16. Then MQ-CNN on the bundled retail panel, through
the trainer's own `precision`: fp32, "bf16-sr" and "bf16-nearest", whose matrix products run in bf16 as well; scored by
the WQL of a backtest as `sirdar plan` does it, six weeks from each of three origins, and on the last weeks that the
last of them was trained on. One origin says as much about its weeks as about rounding: an optimiser that cannot move
seven weights in ten learns less, which costs most where it was trained and may help where demand then changes.
Writes `results/chips/numerics_training.json`.
"""

import argparse
import ast
import math
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from store import bar, store
from torch import nn

from sirdar.forecasting.backtest import backtest
from sirdar.forecasting.models.mqcnn import MQCNN
from sirdar.forecasting.panel import Panel
from sirdar.forecasting.training import Precision, Training
from sirdar.numerics.adamw import AdamW
from sirdar.predictive.scores import wql
from sirdar.recipes.plan import Settings, read

WIDTH, CONTEXT, BATCH, LAYERS = 64, 48, 16, 2
RATE = 3e-4  # falls to 0 along half a cosine
HORIZON, SERIES = Settings.horizon, 300
FORECASTER_RATE = 1e-4  # at the trainer's default, thirty times that, few updates are small enough to be lost
PRECISIONS: dict[Precision, int] = {"fp32": 4, "bf16-sr": 2, "bf16-nearest": 2}
ARMS = {"fp32": 4, "bf16_nearest": 2, "bf16_stochastic": 2, "bf16_with_fp32_copy": 6}  # bytes of memory a weight


class Network(nn.Module):
    """Characters in, logits of the next one out."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.symbol = nn.Embedding(symbols, WIDTH)
        self.place = nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        block = {"d_model": WIDTH, "nhead": 4, "dim_feedforward": 4 * WIDTH, "dropout": 0.0, "batch_first": True}
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(**block, norm_first=True) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, symbols)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """From [batch, time] to [batch, time, symbol]."""
        x = self.symbol(text) + self.place
        for block in self.blocks:
            x = block(x, src_mask=self.mask, is_causal=True)
        return self.out(self.norm(x))


def main() -> None:
    """Train every arm from every seed, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--forecaster-steps", type=int, default=400)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text, symbols = corpus()
    began = time.process_time()
    runs = [
        {"seed": seed, **{arm: train(arm, text, symbols, seed, arguments.steps) for arm in ARMS}}
        for seed in range(arguments.seeds)
    ]
    panel = sample_panel()
    forecasts = [
        {"seed": seed, **{arm: forecaster(arm, panel, seed, arguments.forecaster_steps) for arm in PRECISIONS}}
        for seed in range(arguments.seeds)
    ]
    report(runs, forecasts, vars(arguments), time.process_time() - began)


def sample_panel() -> Panel:
    """The products of the bundled panel with the longest histories."""
    panel = read(Settings())
    return panel.select(np.argsort(-panel.history, kind="stable")[:SERIES])


def forecaster(precision: Precision, panel: Panel, seed: int, steps: int) -> dict[str, Any]:
    """WQL of MQ-CNN over all origins, at each, and where the last was trained; and the weights that no update can move.

    Those are the weights whose half a step of bf16 is more than the learning rate, which bounds AdamW's updates but for
    the first few.
    """
    training = Training(precision=precision, learning_rate=FORECASTER_RATE)
    model = MQCNN(HORIZON, seed=seed, steps=steps, training=training)
    (found,) = backtest(
        {"mq-cnn": model}, panel, windows=Settings.windows
    ).scores  # which leaves the model as the last origin trained it
    weights = torch.cat([weight.detach().flatten() for weight in model.inference()[0].parameters()])
    half_a_step = torch.ldexp(torch.ones_like(weights), torch.frexp(weights)[1] - 9)
    return {
        "wql": round(found.wql, 6),
        "wql_by_origin": [round(value, 6) for value in found.wql_by_origin],
        "wql_trained_on": scored(model, panel.cut(2 * HORIZON)),
        "out_of_reach": round(((half_a_step > FORECASTER_RATE) & (weights != 0)).float().mean().item(), 4),
    }


def scored(model: MQCNN, seen: Panel) -> float:
    """WQL of the steps after a panel that was cut."""
    forecast = model.predict(seen)
    return round(wql(seen.actuals(HORIZON), forecast.values, forecast.levels), 6)


def corpus() -> tuple[torch.Tensor, int]:
    """Some of Python's library as indices of characters."""
    folder = Path(ast.__file__).parent
    names = ("argparse.py", "ast.py", "datetime.py", "difflib.py", "inspect.py", "pathlib.py", "random.py", "typing.py")
    text = "".join((folder / name).read_text(encoding="utf-8") for name in names if (folder / name).exists())
    text = "".join(c if ord(c) < 127 else "?" for c in text)
    alphabet = {c: i for i, c in enumerate(sorted(set(text)))}
    return torch.tensor([alphabet[c] for c in text]), len(alphabet)


def train(arm: str, text: torch.Tensor, symbols: int, seed: int, steps: int) -> dict[str, float]:
    """Loss on held-out text at the end, in nats, and the share of weights that the last update left as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network(symbols)
    narrow = arm in ("bf16_nearest", "bf16_stochastic")
    weights = {
        n: nn.Parameter(p.detach().to(torch.bfloat16 if narrow else torch.float32))
        for n, p in network.named_parameters()
    }
    rounding = "nearest" if arm == "bf16_nearest" else "stochastic"
    optimiser = AdamW(weights.values(), lr=RATE, rounding=rounding, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    split = int(0.9 * len(text))
    unchanged = 0.0
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        before = [stored(w, arm).clone() for w in weights.values()] if step == steps // 2 else None
        optimiser.zero_grad()
        loss(network, weights, arm, sample(text[:split], generator)).backward()
        optimiser.step()
        if before is not None:
            same = sum(int((a == stored(w, arm)).sum()) for a, w in zip(before, weights.values(), strict=True))
            unchanged = same / sum(w.numel() for w in weights.values())
    held_out = torch.Generator().manual_seed(1000)
    with torch.no_grad():
        losses = [loss(network, weights, arm, sample(text[split:], held_out)).item() for _ in range(40)]
    return {"loss": round(statistics.mean(losses), 5), "unchanged_half_way": round(unchanged, 4)}


def stored(weight: torch.Tensor, arm: str) -> torch.Tensor:
    """The weight that the network computes with; gradients pass through the cast."""
    return weight.bfloat16() if arm == "bf16_with_fp32_copy" else weight


def loss(network: nn.Module, weights: dict[str, nn.Parameter], arm: str, batch: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the next character."""
    values = {name: stored(weight, arm).float() for name, weight in weights.items()}
    logits = torch.func.functional_call(network, values, (batch[:, :-1],))
    return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def sample(text: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A batch of random windows."""
    starts = torch.randint(len(text) - CONTEXT - 1, (BATCH, 1), generator=generator)
    return text[starts + torch.arange(CONTEXT + 1)]


def report(
    runs: list[dict[str, dict[str, float]]],
    forecasts: list[dict[str, dict[str, Any]]],
    arguments: dict[str, int],
    cpu_s: float,
) -> None:
    """Store what each arm lost against fp32."""

    def lost(arm: str) -> list[float]:
        return [round(run[arm]["loss"] - run["fp32"]["loss"], 5) for run in runs]

    def worse(arm: str, score: str = "wql") -> list[float]:
        return [round(run[arm][score] / run["fp32"][score] - 1, 5) for run in forecasts]

    worst = max(map(abs, lost("bf16_stochastic")))
    memory = ARMS["bf16_stochastic"] / ARMS["bf16_with_fp32_copy"]
    bars = [
        bar("nats lost by nearest rounding, least of the seeds", min(lost("bf16_nearest")), 0.05, better="higher"),
        bar("nats from fp32 with stochastic rounding, worst of the seeds", worst, 0.005),
        bar("weight memory, of that of bf16 with an fp32 copy", memory, 1 / 3),
        bar(
            "MQ-CNN: WQL lost by nearest rounding, mean", statistics.mean(worse("bf16-nearest")), 0.01, better="higher"
        ),
        bar("MQ-CNN: WQL lost by stochastic rounding, mean", statistics.mean(worse("bf16-sr")), 0.003),
        bar(
            "MQ-CNN: WQL of the weeks trained on, lost by nearest rounding, mean",
            statistics.mean(worse("bf16-nearest", "wql_trained_on")),
            0.01,
            better="higher",
        ),
    ]
    measured = {
        **arguments,
        "cpu_s": round(cpu_s, 1),
        "bytes_a_weight": ARMS,
        "nats_lost": {arm: lost(arm) for arm in ARMS},
        "wql_lost": {arm: worse(arm) for arm in PRECISIONS},
        "wql_lost_where_trained": {arm: worse(arm, "wql_trained_on") for arm in PRECISIONS},
        "runs": runs,
        "forecasts": forecasts,
    }
    claim = "bf16 weights rounded stochastically train as fp32 does, at a third of the memory of bf16 with an fp32 copy"
    store("chips/numerics_training", claim, "python benchmarks/numerics_training.py", measured, bars)


if __name__ == "__main__":
    main()
