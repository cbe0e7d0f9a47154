# SPDX-License-Identifier: Apache-2.0
"""AWS's published Inferentia and Trainium rows as networks: what one step of each row computes, on how many cores.

The rows come from a table with the columns chip, kind, model, details, instance, dtype, batch, n_cores, nodes,
throughput, p50_ms and raw (name=value pairs, joined by "|"). What a row does not say is taken from the public
configuration of its model and from the tutorial that the row names (picture sizes of YOLO v4, 608, and OpenPose, 656 x
368); 50 (PixArt: 20) denoising steps are an assumption.

Three things have to be read between the columns. "b5" in a name is the batch that was compiled; the column "batch" may
be what a caller sends, two compiled batches at once (tutorial of ResNet-50 in TensorFlow). How many cores were at work
follows from Little's law: on an inf1.6xlarge TensorFlow's DistilBERT has 4 batches in flight on 16 cores, since its one
caller gets one chip by default. And a pipeline of cores keeps all weights on chip ("NeuronCore Pipeline", AWS Neuron
documentation), so it reads none.
"""

import csv
import math
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import chips_networks as networks

from sirdar.workload.graph import Graph

CORES = {"inf1": 4, "inf2": 2, "trn1": 2}  # of one chip
_RESNETS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
_VGGS = {
    "vgg11": (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    "vgg16": (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
}
_ENCODERS = {  # layers, width, and the architecture they share
    "albert-base": (12, 768, "albert"),
    "bert-base": (12, 768, "bert-base"),
    "bert-large": (24, 1024, "bert-large"),
    "distilbert": (6, 768, "distilbert"),
    "distilroberta": (6, 768, "distilbert"),
    "electra-base": (12, 768, "bert-base"),
    "roberta-base": (12, 768, "bert-base"),
    "roberta-large": (24, 1024, "bert-large"),
    "xlm-roberta-base": (12, 768, "xlm-roberta"),
}
_DECODERS = {  # layers, width, heads, heads of keys, inner width, vocabulary, and the architecture they share
    "llama-3-8b": (32, 4096, 32, 8, 14336, 128256, "llama-3-8b"),
    "llama-3.1-8b": (32, 4096, 32, 8, 14336, 128256, "llama-3-8b"),
    "llama-3-70b": (80, 8192, 64, 8, 28672, 128256, "llama-3-70b"),
    "llama-3.1-70b": (80, 8192, 64, 8, 28672, 128256, "llama-3-70b"),
    "llama-2-7b": (32, 4096, 32, 32, 11008, 32000, "llama-2-7b"),
    "llama2-7b": (32, 4096, 32, 32, 11008, 32000, "llama-2-7b"),
    "llama-2-13b": (40, 5120, 40, 40, 13824, 32000, "llama-2-13b"),
    "llama2-13b": (40, 5120, 40, 40, 13824, 32000, "llama-2-13b"),
    "codellama-13b": (40, 5120, 40, 40, 13824, 32016, "llama-2-13b"),
    "llama-2-70b": (80, 8192, 64, 8, 28672, 32000, "llama-2-70b"),
    "mistral-7b": (32, 4096, 32, 8, 14336, 32000, "mistral-7b"),
    "gpt3-23b": (28, 8192, 64, 64, 32768, 50257, "gpt3-23b"),
    "gpt3-46b": (56, 8192, 64, 64, 32768, 50257, "gpt3-46b"),
    "gpt3-175b": (96, 12288, 96, 96, 49152, 50257, "gpt3-175b"),
}


@dataclass(frozen=True)
class Step:
    """What one core does between two results, and the result AWS published.

    Args:
        kind: of the work; shares are fitted for each kind apart.
        model: as published.
        architecture: models that are the same network share it.
        graphs: networks that run in one step, and how often each.
        items: results of one step on one group of cores.
        groups: of cores that run steps side by side.
        exchanges: sums over the cores of a group in one step.
        dtype: number format of the matrix products.
        chip: the row's.
        instance: the row's.
        throughput: results a second, published.
        active: cores of a chip that are at work and share its memory; all where None.
        cached: whether the weights stay on chip, as those of a pipeline of cores do.
    """

    kind: str
    model: str
    architecture: str
    graphs: tuple[tuple[Graph, float], ...]
    items: float
    groups: float
    exchanges: float
    dtype: str
    chip: str
    instance: str
    throughput: float
    active: int | None = None
    cached: bool = False

    @property
    def seconds(self) -> float:
        """Of one step, as follows from the published throughput."""
        return self.items * self.groups / self.throughput


def steps(path: Path) -> list[Step]:
    """Every row of the table."""
    with path.open(encoding="utf-8") as file:
        return [_step(row) for row in csv.DictReader(file)]


def _step(row: dict[str, str]) -> Step:
    said = dict(part.split("=", 1) for part in row["raw"].split("|") if "=" in part)
    if row["kind"] == "training":
        return _training(row, said)
    if "TP Degree" in said:
        return _decoding(row, said)
    return _inference(row, said)


def _named(table: dict[str, tuple], text: str) -> str:
    hits = [name for name in table if name in text.lower()]
    return max(hits, key=len, default="")


def _made(row: dict[str, str], kind: str, architecture: str, graphs: list[tuple[Graph, float]], **rest: float) -> Step:
    exact = row["kind"] == "training" and row["dtype"] == "FP32"
    return Step(
        kind=kind,
        model=row["model"],
        architecture=architecture,
        graphs=tuple(graphs),
        items=rest.get("items", float(row["batch"])),
        groups=rest.get("groups", 1.0),
        exchanges=rest.get("exchanges", 0.0),
        dtype="fp32" if exact else "bf16",
        chip=row["chip"],
        instance=row["instance"],
        throughput=float(row["throughput"]),
    )


def _training(row: dict[str, str], said: dict[str, str]) -> Step:
    """Forward, and twice as much back; every microbatch is a step."""
    model, batch = row["model"].lower(), int(row["batch"])
    degree = {key: int((re.search(rf"{key}=(\d+)", said["Topology"]) or [0, 1])[1]) for key in ("TP", "PP")}
    groups = int(row["nodes"]) * 32 / degree["TP"] / degree["PP"]
    name = _named(_DECODERS, model)
    if name:
        *shape, architecture = _DECODERS[name]
        tokens = 8192 if "3.1" in name else 2048 if "gpt" in name else 4096
        graph = networks.decoder(
            *shape, batch=batch, cores=degree["TP"], context=tokens // 2, tokens=tokens, gated="gpt" not in name
        )
        parts = [(graph, 3 / degree["PP"])]
        return _made(row, "training", architecture, parts, groups=groups, exchanges=shape[0] / degree["PP"])
    if "bert-large" in model:
        tokens = 512 if "ph2" in model else 128
        graph, architecture = networks.encoder(24, 1024, batch, tokens), "bert-large"
    elif "vit" in model:
        graph, architecture = networks.encoder(12, 768, batch, 197), "vit"
    elif "clip" in model:
        graph, architecture = networks.clip(batch, 768, 12, 32, 512), "clip-base"
    elif "vision" in model:
        graph, architecture = networks.perceiver(batch, 3136, 322, 512, 1024, 48), "perceiver-conv"
    else:
        graph, architecture = networks.perceiver(batch, 2048, 768, 256, 1280, 26), "perceiver-language"
    return _made(row, "training", architecture, [(graph, 3)], groups=groups, exchanges=24)


@cache
def _decoder(name: str, batch: int, cores: int, context: int, stored: str) -> Graph:
    return networks.decoder(*_DECODERS[name][:-1], batch=batch, cores=cores, context=context, stored=stored)


def _decoding(row: dict[str, str], said: dict[str, str]) -> Step:
    """One token for every sequence of the batch, heads and widths cut over the cores."""
    cores, batch = int(said["TP Degree"]), int(row["batch"])
    name = _named(_DECODERS, row["model"])
    if name:
        context = int(said["Input Length"]) + int(said["Output Length"]) // 2
        stored = "int8" if said.get("Weight Storage Data Type") == "int8" else "fp32"
        parts = [(_decoder(name, batch, cores, context, stored), 1.0)]
        return _made(row, "decoding", _DECODERS[name][-1], parts, exchanges=_DECODERS[name][0])
    flan = "flan" in row["model"]
    shape = (24, 2048, 32, 32, 5120, 32128) if flan else (24, 1024, 32, 32, 16384, 32128)
    graph = networks.decoder(*shape, batch=batch, cores=cores, context=64, cross=128, gated=flan)
    return _made(row, "decoding", "t5", [(graph, 1.0)], exchanges=48)


def _inference(row: dict[str, str], said: dict[str, str]) -> Step:
    """One batch on every core that has one in flight, by Little's law."""
    if "Stable Diffusion" in row["model"] or "PixArt" in row["model"]:
        return _diffusion(row)
    compiled = re.search(r",b(\d+),", said.get("Name", ""))
    batch = min(int(row["batch"]), int(compiled[1])) if compiled else int(row["batch"])
    row = {**row, "batch": str(batch)}
    kind, architecture, parts = _vision(row) or _encoder(row)
    cores = int(row["n_cores"] or CORES[row["chip"]])
    piped = said.get("Run Mode") == "Model Pipeline"
    flying = round(float(row["throughput"]) * float(row["p50_ms"]) / 1e3 / batch)
    flying = max(1, flying if piped else min(cores, flying))
    step = _made(row, kind, architecture, parts, groups=float(flying))
    return replace(step, active=min(flying, CORES[row["chip"]]), cached=piped)


_Found = tuple[str, str, list[tuple[Graph, float]]]


def _encoder(row: dict[str, str]) -> _Found:
    name = _named(_ENCODERS, f"{row['model']} {row['details']}".replace("BERT base", "bert-base"))
    layers, width, architecture = _ENCODERS[name]
    vocabulary = 250002 if "xlm" in name else 0
    graph = networks.encoder(layers, width, int(row["batch"]), 128, tied="albert" in name, vocabulary=vocabulary)
    return "encoder", architecture, [(graph, 1.0)]


def _vision(row: dict[str, str]) -> _Found | None:
    model, batch = row["model"].lower(), int(row["batch"])
    resnet, vgg = _named(_RESNETS, model.replace("-", "")), _named(_VGGS, model)
    if resnet:
        blocks, wide = _RESNETS[resnet]
        return "convolution", resnet, [(networks.resnet(blocks, batch, wide=wide), 1.0)]
    if vgg:
        return "convolution", vgg, [(networks.vgg(_VGGS[vgg], batch), 1.0)]
    for name, build in (("unet", networks.unet), ("yolo", networks.yolo), ("openpose", networks.openpose)):
        if name in model.replace(" ", ""):
            return "convolution", name, [(build(batch), 1.0)]
    if "perceiver" in model:
        return _perceiver(model, batch)
    if "clip" in model:
        large = "large" in model
        graph = networks.clip(batch, *((1024, 24, 14, 768) if large else (768, 12, 32, 512)))
        return "encoder", "clip-large" if large else "clip-base", [(graph, 1.0)]
    return ("encoder", "vit", [(networks.encoder(12, 768, batch, 197), 1.0)]) if "vit-base" in model else None


def _perceiver(model: str, batch: int) -> _Found:
    name = model.rsplit("-", 1)[-1]
    if name == "perceiver":  # multimodal: the picture, then 128 pieces of the answer
        first = networks.perceiver(batch, 52097, 704, 784, 512, 8, queries=6275, query_width=1026)
        later = networks.perceiver(1, 1, 704, 784, 512, 0, queries=6275, query_width=1026)
        return "perceiver", "perceiver-multimodal", [(first, 1.0), (later, 127.0)]
    inputs = {"learned": (50176, 512), "fourier": (50176, 261), "conv": (3136, 322)}[name]
    return "perceiver", f"perceiver-{name}", [(networks.perceiver(batch, *inputs, 512, 1024, 48), 1.0)]


def _diffusion(row: dict[str, str]) -> Step:
    """One picture: all denoising steps on both cores, each with one half of the guidance."""
    model, size = row["model"], [int(side) // 8 for side in row["details"].split("x")]
    latent = round(math.sqrt(math.prod(size)))
    if "PixArt" in model:
        network = networks.pixart(1, (latent // 2) ** 2, 300 if "Sigma" in model else 120)
        parts, architecture = [(network, 20.0)], "pixart"
    elif "XL" in model:
        base = networks.diffusion_unet(1, latent, (320, 640, 1280), (0, 2, 10), 10, 2048)
        refiner = networks.diffusion_unet(1, latent, (384, 768, 1536, 1536), (0, 4, 4, 0), 4, 1280)
        parts = [(base, 40.0), (refiner, 10.0)] if "Refiner" in model else [(base, 50.0)]
        architecture = "sdxl-refiner" if "Refiner" in model else "sdxl"
    else:
        words = 768 if "1.5" in model else 1024
        network = networks.diffusion_unet(1, latent, (320, 640, 1280, 1280), (1, 1, 1, 0), 1, words)
        parts, architecture = [(network, 50.0)], model.lower()
    parts.append((networks.image_decoder(1, latent), 1.0))
    return _made(row, "diffusion", architecture, parts, items=1.0)
