# SPDX-License-Identifier: Apache-2.0
"""A search whose process is killed outright, again and again, ends as one that was left alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sirdar.search.ledger import OptunaLedger
from sirdar.search.study import Options, search
from sirdar.testing.search import TOY, ToyTask, toy_cost

_RUN = """
import sys, time
from sirdar.search.study import Options, search
from sirdar.testing.search import TOY, ToyTask, toy_cost

class Slow:
    metric, higher_is_better = "score", True
    graph = ToyTask().graph
    def evaluate(self, candidate, seed, report):
        print("begun", flush=True)
        time.sleep(0.05)
        return ToyTask().evaluate(candidate, seed, report)

search(TOY, Slow(), strategy=sys.argv[1], trials=16, seed=4, options=Options(cost=toy_cost, storage=sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["evolution", "nsga-ii"])
def test_kills_at_random_moments_change_nothing(tmp_path: Path, strategy: str) -> None:
    storage, rng, kills = tmp_path / "study.sqlite", np.random.default_rng(0), 0
    for _ in range(40):
        command = [sys.executable, "-W", "ignore", "-c", _RUN, strategy, str(storage)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()  # what is imported until the first training takes longer on a busy machine
            try:
                process.wait(timeout=float(rng.uniform(0.0, 1.0)))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    whole = search(TOY, ToyTask(), strategy=strategy, trials=16, seed=4, options=Options(cost=toy_cost))
    stored = OptunaLedger(storage, "toy", TOY, (("score", "maximise"), ("latency_s", "minimise"))).ended()
    assert kills
    assert [trial.candidate for trial in stored] == [trial.candidate for trial in whole.trials]
