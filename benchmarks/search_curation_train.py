# SPDX-License-Identifier: Apache-2.0
"""Small convolutional networks of eight widths, trained for `search_curation.py`: widths and accuracy as JSON.

CIFAR-10 at 16 x 16 pixels: 3,000 images of the training part to train on in four passes, 2,000 others of it to judge.
Minutes of one core; what was trained is kept, and --seconds ends a part of it, to be gone on with.
"""

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

TRAIN, JUDGE, PASSES, BATCH = 3000, 2000, 4, 50
LAYERS = 8
WIDTHS = tuple(range(8, 66, 2))


def images(folder: Path) -> tuple[Tensor, Tensor]:
    """Images [image, colour, 16, 16] about zero, and classes."""
    stored = np.load(folder / "vision" / "cifar10_jpg.npz")
    ends, raw = stored["offsets"], stored["jpg"]
    chosen = np.random.default_rng(0).choice(np.flatnonzero(~stored["is_test"]), TRAIN + JUDGE, replace=False)
    pixels = []
    for index in chosen:
        picture = Image.open(io.BytesIO(raw[ends[index] : ends[index + 1]].tobytes())).convert("RGB")
        pixels.append(np.asarray(picture.resize((16, 16)), dtype=np.float32) / 127.5 - 1)
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2), torch.from_numpy(stored["label"][chosen]).long()


def network(widths: tuple[int, ...]) -> nn.Sequential:
    """3 x 3 convolutions, halving the resolution after every second one but the last."""
    layers: list[nn.Module] = []
    inputs = 3
    for place, width in enumerate(widths):
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if place % 2 and place + 1 < len(widths) else []
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def accuracy(widths: tuple[int, ...], data: tuple[Tensor, Tensor], seed: int) -> float:
    """Top-1 accuracy, 0..1, on the images that were not trained on."""
    torch.manual_seed(seed)
    model = network(widths)
    steps = PASSES * TRAIN // BATCH
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=steps)
    order = torch.randperm(TRAIN * PASSES) % TRAIN
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        batch = data[0][rows]
        batch = batch.flip(3) if step % 2 else batch
        optimiser.zero_grad()
        functional.cross_entropy(model(batch), data[1][rows]).backward()
        optimiser.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        return float((model(data[0][TRAIN:]).argmax(1) == data[1][TRAIN:]).float().mean())


def main() -> None:
    """Trains networks of random widths until the count or the time is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("search_curation_train.json"))
    parser.add_argument("--count", type=int, default=68)
    parser.add_argument("--seconds", type=float, default=1e9)
    options = parser.parse_args()
    if options.data is None or not (options.data / "vision").is_dir():
        print("search_curation_train needs --data DIR with vision/cifar10_jpg.npz")
        return
    data = images(options.data)
    rows = json.loads(options.out.read_text()) if options.out.exists() else []
    rng, begin = np.random.default_rng(0), time.monotonic()
    for number in range(options.count):
        widths = tuple(int(width) for width in rng.choice(WIDTHS, LAYERS))
        if number < len(rows):
            continue
        if time.monotonic() - begin > options.seconds:
            break
        rows.append({"widths": widths, "accuracy": accuracy(widths, data, number)})
        options.out.write_text(json.dumps(rows))
    print(f"{len(rows)} of {options.count} networks are trained")


if __name__ == "__main__":
    main()
