# SPDX-License-Identifier: Apache-2.0
"""How a camera network leaves: weights, ONNX, an int8 TFLite file, and what the compiler says of it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sirdar.deploy.capture import quiet
from sirdar.deploy.export import export_onnx
from sirdar.placing import placed
from sirdar.recipes.vision_product import Data, Product, ProductTask
from sirdar.recipes.vision_usage import STEP, usage
from sirdar.search.space import Candidate
from sirdar.search.study import Study
from sirdar.vision.checkpoint import save_network
from sirdar.vision.detection import Raw

_ESTIMATES = ("latency_s", "cycles", "sram_bytes", "peak_bytes", "parameter_bytes")
_SPAN = (-1.0, 1.0)  # of an image's bytes, though the training images be all of dusk
_LOWER = STEP / 1000  # decides between two int8 values where a byte lies half way, as `compiled.json` says


def deliver(
    product: Product,
    candidate: Candidate,
    network: nn.Module,
    calibration: Tensor,
    folder: Path,
    classes: Sequence[str] = (),
) -> dict[str, float]:
    """Writes a trained network in every form.

    Args:
        product: what it is for.
        candidate: what was built.
        network: trained, in evaluation mode, on the CPU.
        calibration: images [image, 3, height, width] in -1..1 that look like what it will see; they decide the scales.
        folder: gets `network.safetensors`, `network.onnx`, `network.tflite`, what Vela makes of it as
            `network_vela.tflite`, and `compiled.json`, which says how they are fed and read.
        classes: names of the outputs, for `compiled.json` and the weights' metadata.

    Returns:
        Vela's estimates (latency_s, cycles, sram_bytes, peak_bytes, parameter_bytes) and "int8_error", the largest
        difference of an int8 output from torch's on the first calibration image, relative to the largest output.

    Raises:
        OutputError: a file cannot be written.
        UnsupportedError: a package is missing, or the ONNX file does not compute what torch does.
    """
    from sirdar.deploy.compiled import compile_tflite, vela_file
    from sirdar.deploy.tflite import predict, save, write

    facts = {"product": product.name, "choices": candidate.as_dict(), "classes": list(classes)}
    height, width = product.size(candidate)
    save_network(folder / "network.safetensors", network, facts | {"height": height, "width": width})
    with quiet():
        export_onnx(network, calibration[:1], folder / "network.onnx")
    file = write(network, calibration[:1], [calibration], span=_SPAN)
    save(file, folder / "network.tflite")
    save(vela_file(file, product.chip), folder / "network_vela.tflite")
    report = asdict(compile_tflite(file, product.chip))
    with torch.inference_mode():
        wanted = _outputs(network(calibration[:1]))
    found = sorted(predict(file, calibration[:1]), key=lambda output: tuple(output.shape))
    pairs = zip(found, sorted(wanted, key=lambda output: tuple(output.shape)), strict=True)
    error = max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)
    used = usage(product.name, (height, width), folder / "network.onnx", file)
    _write_json(folder / "compiled.json", facts | used | {"chip": product.chip, "vela": report, "int8_error": error})
    return {name: float(report[name]) for name in _ESTIMATES} | {"int8_error": error}


def deliver_winner(
    product: Product, data: Data, study: Study, folder: Path, seed: int = 0, unfinished: Path | None = None
) -> dict[str, float]:
    """Trains the best candidate of a search once more, as the search did, and writes it in every form.

    Args:
        product: that was searched.
        data: that it was searched on.
        study: what was found, for which chip.
        folder: see `deliver`.
        seed: of the search.
        unfinished: a folder from which a training that was killed goes on, to the same network.

    Returns:
        What `deliver` does, and the metric on validation data: of the network and, as "..._int8", of the TFLite file
        run by LiteRT.

    Raises:
        OutputError: a file cannot be written.
        UnsupportedError: see `deliver`.
    """
    aimed, candidate = replace(product, chip=study.chip), study.best.candidate
    checkpoint = None if unfinished is None else unfinished / f"{_training(product, data, candidate, seed)}.safetensors"
    network, _ = ProductTask(aimed, data).trained(candidate, seed, checkpoint=checkpoint)
    score = data.score(candidate, network)
    found = deliver(aimed, candidate, network.cpu(), data.calibration(candidate), folder, data.classes)
    int8 = Int8Network((folder / "network.tflite").read_bytes())
    return found | {product.metric: score, f"{product.metric}_int8": data.score(candidate, int8.eval())}


def _training(product: Product, data: Data, candidate: Candidate, seed: int) -> str:
    """Names a training by all that it follows from: another one's checkpoint is left alone."""
    facts = (product.name, product.schedule, candidate.key, seed, data.digest, data.device, torch.__version__)
    return f"{product.name}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}"


@final
class Int8Network(nn.Module):
    """An int8 TFLite file in the place of the camera network that it was written from; LiteRT runs it.

    Args:
        file: for one image.
    """

    def __init__(self, file: bytes) -> None:
        super().__init__()
        self.file = file

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Tensor | Raw:
        """What the network puts out, as far as 8 bits tell it."""
        from sirdar.deploy.tflite import predict

        rows = [
            sorted(predict(self.file, image), key=lambda part: tuple(part.shape))
            for image in (images - _LOWER).split(1)
        ]
        parts = [torch.cat(part).to(images.device) for part in zip(*rows, strict=True)]
        return parts[0] if len(parts) == 1 else Raw(*parts)


def _outputs(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (found,) if isinstance(found, Tensor) else tuple(found)


def _write_json(path: Path, content: dict[str, object]) -> None:
    with placed(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")
