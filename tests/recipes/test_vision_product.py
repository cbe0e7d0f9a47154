# SPDX-License-Identifier: Apache-2.0
"""The three camera products: every corner of their spaces is a network that compiles; a small search runs through."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sirdar.deploy.compiled import compile_tflite, ethos_u
from sirdar.deploy.tflite import write
from sirdar.errors import ArgumentError, DataError
from sirdar.recipes import classification, detection, segmentation
from sirdar.recipes.vision_product import (
    Data,
    Product,
    ProductTask,
    compiled_cost,
    digest_of,
    held_out,
    searched,
)
from sirdar.search.study import Options
from sirdar.search.zeroshot import scored
from sirdar.vision.images import VOID, Boxed, Labelled, Masked

MODULES = (detection, classification, segmentation)
PRODUCTS = [module.PRODUCT for module in MODULES]


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_every_corner_of_a_space_is_a_network(product: Product) -> None:
    rng = np.random.default_rng(0)
    space = product.space
    for candidate in (space.smallest(), space.largest(), product.baseline, space.sample(rng), space.sample(rng)):
        with torch.inference_mode():
            outputs = product.network(candidate).eval()(product.example(candidate))
        parts = outputs if isinstance(outputs, tuple) else (outputs,)
        assert all(torch.isfinite(part).all() for part in parts)


def test_the_same_seed_gives_the_same_weights() -> None:
    product = classification.PRODUCT
    one, two = (product.network(product.space.smallest(), 3).state_dict() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.values(), two.values(), strict=True))


def test_spaces_of_the_published_rows() -> None:
    assert detection.BASELINE in detection.SPACES["V1"]
    assert detection.BASELINE in detection.SPACES["V2"]
    assert detection.FUSED in detection.SPACES["V2"]
    assert detection.SPACES["V2"].size == 2**6
    assert detection.SPACES["V1"].size * detection.SPACES["V2"].size == detection.SPACE.size


def test_the_experts_rules_leave_no_depthwise_convolution_and_even_channels() -> None:
    ruled = classification.by_rules(classification.BASELINE)
    network = classification.build(ruled)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.groups == 1 and module.out_channels % 16 == 0 for module in convolutions)
    assert ruled["stage1.channels"] >= 2 * classification.BASELINE["stage1.channels"]
    assert classification.by_rules(ruled) == ruled


def test_a_fused_first_block_lowers_the_peak_and_the_others_stay_bottlenecks() -> None:
    led = classification.SPACE.candidate(classification.BASELINE.as_dict() | {"stage1.kind": "fused-first"})
    kinds = [[block.kind for block in classification._stage_for(led, name, 2)] for name in ("stage1", "stage2")]
    assert kinds == [["fused", "ibn"], ["ibn"] * 3]
    cost = compiled_cost(classification.PRODUCT)
    assert cost(led).peak_bytes < 0.8 * cost(classification.BASELINE).peak_bytes
    assert cost(led).energy_j == pytest.approx(ethos_u("ethos-u55-256").power_w.value * cost(led).latency_s)


def test_clustered_weights_take_fewer_bytes_and_less_time_on_the_target() -> None:
    pytest.importorskip("ethosu")
    price = compiled_cost(classification.PRODUCT)
    plain = classification.BASELINE
    few = classification.SPACE.candidate(plain.as_dict() | {"compress.clusters": 15})
    assert price(few).parameter_bytes < 0.6 * price(plain).parameter_bytes
    assert price(few).latency_s < 0.75 * price(plain).latency_s


def test_a_clustered_candidate_leaves_as_one_that_compiles_as_small() -> None:
    """Trained for three steps; the file that it leaves as is about as small as the price of made-up weights said."""
    pytest.importorskip("ethosu")
    candidate = classification.SPACE.candidate(classification.BASELINE.as_dict() | {"compress.clusters": 15})
    data, product = _data("classification"), classification.PRODUCT
    task = ProductTask(product, data, replace(product.schedule, steps=3, batch=8))
    network, _ = task.trained(candidate, 0)
    assert set(network.state_dict()) == set(product.network(candidate).state_dict())
    images = data.calibration(candidate)
    found = compile_tflite(write(network, images[:1], [images]), product.chip).parameter_bytes
    assert found == pytest.approx(compiled_cost(product)(candidate).parameter_bytes, rel=0.25)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_a_price_before_training_is_that_of_a_file(product: Product) -> None:
    """Parameters with the biases and scales of every channel, activations wherever they lie."""
    pytest.importorskip("ethosu")
    candidate = product.space.smallest()
    images = product.example(candidate)
    file = write(product.network(candidate).eval(), images, [images])
    found, price = compile_tflite(file, product.chip), compiled_cost(product)(candidate)
    assert price.parameter_bytes == pytest.approx(found.parameter_bytes, rel=0.05)
    assert price.peak_bytes == pytest.approx(found.peak_bytes, rel=0.01)


def test_fusing_early_is_faster_and_fusing_all_is_slower_on_the_target() -> None:
    pytest.importorskip("ethosu")
    price = compiled_cost(detection.PRODUCT)
    early = detection.SPACE.candidate(detection.BASELINE.as_dict() | {"stage1.kind": "fused"})
    base, fused, first = (price(c).latency_s for c in (detection.BASELINE, detection.FUSED, early))
    assert first < base < fused


def _boxed() -> Boxed:
    images = torch.randint(0, 255, (4, 3, *detection.SIZE), generator=torch.Generator().manual_seed(0)).byte()
    return Boxed(images, torch.tensor([[[30.0, 20, 90, 180]]]).expand(4, 1, 4))


def _data(name: str) -> Data:
    if name == "detection":
        return detection.data_of(_boxed(), _boxed())
    generator = torch.Generator().manual_seed(0)
    if name == "classification":
        images = torch.randint(0, 255, (8, 3, 32, 32), generator=generator).byte()
        data = Labelled(images, torch.arange(8), tuple("abcdefghij"))
        return classification.data_of(data, data)
    images = torch.randint(0, 255, (2, 3, 180, 240), generator=generator).byte()
    scene = Masked(images, torch.randint(0, 11, (2, 1, 180, 240), generator=generator).byte(), tuple("abcdefghijk"))
    return segmentation.data_of(scene, scene)


def test_every_class_is_trained_and_judged() -> None:
    held = held_out(np.array([0] * 3 + [1] * 12), ("cat", "dog"), 10)
    assert np.flatnonzero(held).tolist() == [0, 3, 13]
    with pytest.raises(DataError, match="folder 'images' has one image"):
        held_out(np.zeros(1, int), ("images",), 5)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_a_candidate_is_trained_and_judged(product: Product) -> None:
    task = ProductTask(product, _data(product.name), replace(product.schedule, steps=3, batch=2))
    reports: list[int] = []
    found = task.evaluate(product.space.smallest(), 0, lambda step, _value: reports.append(step))
    assert 0 <= found[product.metric] <= 1
    assert reports == [1, 2]
    assert task.graph(product.space.smallest()).macs > 1e5


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_untrained_networks_are_scored_block_by_block(product: Product) -> None:
    task = ProductTask(product, Data(lambda _candidate: None, lambda _candidate, _network: 0.0, product.example))  # type: ignore[arg-type, return-value]
    (found,) = scored(task, [product.space.smallest()], batch=2)
    assert all(np.isfinite(value) for value in found.values())
    assert found["trainability"] != 0
    assert found["gradients"] > 0


def test_a_larger_input_has_more_operations_untrained() -> None:
    task = ProductTask(segmentation.PRODUCT, _data("segmentation"))
    values = segmentation.PRODUCT.space.smallest().as_dict()
    sizes = [segmentation.SPACE.candidate(values | {"input": size}) for size in ("80x112", "144x192")]
    small, large = (row["operations"] for row in scored(task, sizes, batch=1))
    assert large - small == pytest.approx(np.log(144 * 192 / (80 * 112)), rel=0.01)


def _tiny(product: Product) -> Product:
    """Two candidates, two steps."""
    smallest = product.space.smallest()
    kept = {name: (value,) for name, value in smallest.values if name != "stem.channels"}
    space = product.space.restrict(kept | {"stem.channels": (16, 24)})
    return replace(product, space=space, schedule=replace(product.schedule, steps=2, batch=2))


def test_a_digest_tells_data_apart() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    first, second = (Labelled(images, torch.tensor(labels), ("cat", "dog")) for labels in ([0, 1], [1, 0]))
    renamed = replace(first, classes=("cat", "cow"))
    assert digest_of(first) == digest_of(replace(first, images=images.clone()))
    assert len({digest_of(row) for row in (first, second, renamed)} | {digest_of(first, second)}) == 4


def test_a_search_under_a_limit_trains_nothing_beyond_it(tmp_path: Path) -> None:
    pytest.importorskip("ethosu")
    pytest.importorskip("optuna")
    product, data = _tiny(classification.PRODUCT), _data("classification")
    sizes = sorted(compiled_cost(product)(c).peak_bytes for c in product.space)
    limit = sum(sizes) / 2
    settings, options = {"strategy": "random", "trials": 1, "seed": 0}, Options(storage=tmp_path / "study.sqlite")
    study = searched(product, data, None, {"peak_bytes": limit}, settings, options)
    assert [trial.measures["peak_bytes"] for trial in study.trials] == sizes[:1]
    assert study.chip == product.chip
    again = searched(product, _data("classification"), None, {"peak_bytes": limit}, settings, options)
    assert again.trials == study.trials
    with pytest.raises(ArgumentError, match="was made with data '.*', not 'other images'"):
        searched(product, replace(data, digest="other images"), None, {"peak_bytes": limit}, settings, options)
    with pytest.raises(ArgumentError, match="was made with chip 'ethos-u55-256', not 'ethos-u55-128'"):
        searched(product, data, "ethos-u55-128", {"peak_bytes": limit}, settings, options)
    longer = replace(product, schedule=replace(product.schedule, steps=9))
    with pytest.raises(ArgumentError, match="was made with steps '2', not '9'"):
        searched(longer, data, None, {"peak_bytes": limit}, settings, options)
    with pytest.raises(ArgumentError, match="no candidate of space .* keeps to peak_bytes <= 10"):
        searched(product, _data("classification"), None, {"peak_bytes": 10.0}, settings, options)


def test_a_users_folder_is_searched(tmp_path: Path) -> None:
    pytest.importorskip("ethosu")
    rng = np.random.default_rng(0)
    picture = np.zeros((20, 20, 3), np.uint8)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(6):
            picture = rng.integers(0, 255, (20, 20, 3)).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{number}.png")
    with pytest.raises(ArgumentError, match="needs a folder of images"):
        classification.search_product(None, None, {})
    opened, data = classification.opened(tmp_path)
    (tmp_path / "emu").mkdir()
    Image.fromarray(picture).save(tmp_path / "emu" / "0.png")
    with pytest.raises(DataError, match="folder 'emu' has one image; at least two are needed"):
        classification.opened(tmp_path)
    product = _tiny(opened)
    settings = {"strategy": "evolution", "trials": 2, "seed": 0}
    study = searched(product, data, "ethos-u55-128", {"memory_bytes": 300e3}, settings)
    assert product.network(study.best.candidate).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 2)


def test_a_user_s_own_split_is_kept(tmp_path: Path) -> None:
    for part, name, count in (("train", "cat", 3), ("train", "dog", 2), ("val", "dog", 1), ("val", "cat", 1)):
        (tmp_path / part / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (16, 16)).save(tmp_path / part / name / f"{number}.png")
    data = classification.opened(tmp_path)[1]
    assert (data.counts, data.classes) == ((5, 2), ("cat", "dog"))
    for name, other in (("train", "Training"), ("val", "Validation")):
        (tmp_path / name).rename(tmp_path / other)
    assert classification.opened(tmp_path)[1].digest == data.digest
    for name, other in (("train", "Training"), ("val", "Validation")):
        (tmp_path / other).rename(tmp_path / name)
    (tmp_path / "val" / "cat").rename(tmp_path / "val" / "cow")
    with pytest.raises(DataError, match="train/ and val/ must have the same classes, and one of them lacks 'cat'"):
        classification.opened(tmp_path)
    (tmp_path / "val").rename(tmp_path / "test")
    with pytest.raises(DataError, match="has train/ and no val/; give .*train, of which a tenth is held out"):
        classification.opened(tmp_path)


def _pictures(folder: Path, count: int) -> None:
    (folder / "images").mkdir()
    for number in range(count):
        Image.new("RGB", (24, 20)).save(folder / "images" / f"{number}.png")


def test_images_are_read_at_the_size_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("ethosu")
    _pictures(tmp_path, 5)
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\n0.png,2,2,20,15\n1.png,2,2,20,15\n")
    (tmp_path / "masks").mkdir()
    (tmp_path / "classes.txt").write_text("ground\nthing\n")
    for number in range(5):
        Image.fromarray(np.arange(480, dtype=np.uint8).reshape(20, 24) % 2).save(tmp_path / "masks" / f"{number}.png")
    thumbs = tmp_path / "classes"
    for name in ("cat", "dog"):
        (thumbs / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (24, 20)).save(thumbs / name / f"{number}.png")
    for recipe, folder, size in (
        (classification, thumbs, (96, 72)),
        (detection, tmp_path, (96, 128)),
        (segmentation, tmp_path, (128, 128)),
    ):
        product, data = recipe.opened(folder, size)
        usual = recipe.opened(folder)[0]
        baseline = product.baseline
        read = data.calibration(baseline)
        seen = (96, 96) if recipe is segmentation else size  # four fifths, a multiple of 16
        assert read.shape[2:] == seen
        assert product.size(baseline) == seen
        assert compiled_cost(product)(baseline).macs != compiled_cost(usual)(usual.baseline).macs
        assert 0 <= data.score(baseline, product.network(baseline).eval()) <= 1
        with pytest.raises(ArgumentError, match=r"multiples of \d+ from \d+ on, got 50 x 50"):
            recipe.opened(folder, (50, 50))


@pytest.mark.parametrize(
    ("boxed", "sentence"),
    [((1, 3), r"judge by \(every fifth by name\)"), ((0,), "train on")],
)
def test_boxes_to_learn_and_boxes_to_judge_by_are_needed(tmp_path: Path, boxed: tuple[int, ...], sentence: str) -> None:
    _pictures(tmp_path, 5)
    rows = "".join(f"{number}.png,2,2,20,15\n" for number in boxed)
    (tmp_path / "boxes.csv").write_text(f"image,left,top,right,bottom\n{rows}")
    with pytest.raises(DataError, match=f": no image to {sentence} has a box"):
        detection.opened(tmp_path)
    (tmp_path / "boxes.csv").write_text("image,left,top,right,bottom\n0.png,2,2,20,15\n1.png,2,2,20,15\n")
    detection.opened(tmp_path)


def test_masks_of_one_class_and_void_teach_nothing(tmp_path: Path) -> None:
    _pictures(tmp_path, 5)
    (tmp_path / "masks").mkdir()
    (tmp_path / "classes.txt").write_text("ground\nthing\n")
    masks = np.zeros((5, 20, 24), np.uint8)
    masks[:, 5:9] = VOID  # as masks of black and white are

    def opened() -> None:
        for number, mask in enumerate(masks):
            Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
        segmentation.opened(tmp_path)

    with pytest.raises(DataError, match="masks: those to train on show 1 of the 2 classes; 255 is void, no class"):
        opened()
    masks[masks == VOID] = 1
    opened()
    masks[0] = VOID
    with pytest.raises(DataError, match=r"masks: those to judge by \(every fifth by name\) show 0 of the 2 classes"):
        opened()
