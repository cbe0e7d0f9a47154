# SPDX-License-Identifier: Apache-2.0
"""Run by `forecasting_forking.py` in the peer's environment: origins per CPU second of neuralforecast's TCN.

Reads {"horizon", "width", "steps", "batch", "length"} from stdin, prints JSON. The encoder has MQ-CNN's width, kernel
and dilations; windows_batch_size is its default (128 sampled windows), and each window is one origin.
"""

import json
import logging
import sys
import time
import warnings

import numpy as np
import pandas as pd


def main() -> None:
    """Train for so many steps, less the time of one step."""
    task = json.load(sys.stdin)
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MQLoss
    from neuralforecast.models import TCN

    torch.set_num_threads(1)
    length, series = task["length"], 500
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(series), length),
            "ds": np.tile(np.arange(length), series),
            "y": rng.poisson(20, series * length).astype(float),
        }
    )

    def seconds(steps: int) -> float:
        model = TCN(
            h=task["horizon"],
            input_size=64,
            loss=MQLoss(quantiles=[q / 10 for q in range(1, 10)]),
            kernel_size=2,
            dilations=[1, 2, 4, 8, 16, 32],
            encoder_hidden_size=task["width"],
            max_steps=steps,
            batch_size=task["batch"],
            windows_batch_size=task["batch"],
            scaler_type="standard",
            enable_progress_bar=False,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        began = time.process_time()
        NeuralForecast(models=[model], freq=1).fit(frame)
        return time.process_time() - began

    seconds(1)
    used = seconds(task["steps"] + 1) - seconds(1)
    print(json.dumps({"origins_per_cpu_s": task["steps"] * task["batch"] / used}))


if __name__ == "__main__":
    main()
