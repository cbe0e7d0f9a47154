# SPDX-License-Identifier: Apache-2.0
"""Vela in this process against Vela's own command, and against what its documents say of its memory modes."""

import csv
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from sirdar.chips.analytic import Estimator
from sirdar.chips.chip import Chip
from sirdar.deploy.compiled import Vela, compile_tflite, ethos_u
from sirdar.deploy.tflite import write
from sirdar.errors import ArgumentError
from sirdar.testing.chips import EstimatorChecks, example_graph
from sirdar.workload.trace import trace

pytest.importorskip("ethosu.vela")

NAMES = [f"ethos-u55-{n}" for n in (32, 64, 128, 256)] + ["ethos-u65-256", "ethos-u65-512"]
NAMES += [f"ethos-u85-{n}" for n in (128, 256, 512, 1024, 2048)]


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6(), nn.Conv2d(16, 64, 1), nn.ReLU6()]
    second = [nn.Conv2d(64, 64, 3, 1, 1, groups=64), nn.ReLU6(), nn.Conv2d(64, 24, 1)]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)).eval()


@pytest.fixture(scope="module")
def file(module: nn.Module) -> bytes:
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return write(module, x, [x])


@pytest.mark.parametrize("name", ["ethos-u55-256", "ethos-u65-512", "ethos-u85-512"])
def test_cycles_are_those_of_vela_s_own_command(name: str, file: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    from ethosu.vela import vela

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "net.tflite"
        source.write_bytes(file)
        vela.main([str(source), "--accelerator-config", name, "--output-dir", folder])
        with next(Path(folder).glob("*summary*.csv")).open() as lines:
            row = next(csv.DictReader(lines))
    capsys.readouterr()
    found = compile_tflite(file, name)
    assert found.cycles == float(row["cycles_total"])
    assert found.npu_cycles == float(row["cycles_npu"])
    assert found.latency_s == pytest.approx(float(row["inference_time"]))
    assert found.sram_bytes / 1024 == pytest.approx(float(row["sram_memory_used"]))


@pytest.mark.parametrize("name", NAMES)
def test_every_accelerator_compiles_and_says_nothing(name: str, file: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    found = compile_tflite(file, name)
    assert found.host_operators == 0
    assert sum(row.cycles for row in found.operators) == found.cycles > 0
    assert found.macs == pytest.approx(trace_macs(), rel=0.01)
    chip = ethos_u(name)
    assert chip.name == name
    assert all(number.source and number.date.year > 2000 for _, number in chip.numbers())
    assert found.macs / found.latency_s * 2 < chip.flops_per_s["int8"].value  # no faster than the peak of its sheet
    assert capfd.readouterr() == ("", "")


def trace_macs() -> int:
    """Multiply-accumulates of the network, by hand: 3x3 stem, expansion, depthwise, projection, head."""
    return 32 * 32 * (16 * 27 + 64 * 16 + 64 * 9 + 24 * 64) + 240


def test_memory_modes_put_things_where_their_names_say(file: bytes) -> None:
    alone = compile_tflite(file, "ethos-u55-256", memory_mode="Sram_Only")
    shared = compile_tflite(file, "ethos-u55-256", memory_mode="Shared_Sram")
    dedicated = compile_tflite(file, "ethos-u65-256", memory_mode="Dedicated_Sram")
    assert set(alone.memory_bytes) == {"Sram"}
    assert set(shared.memory_bytes) == {"Sram", "OffChipFlash"}
    assert set(dedicated.memory_bytes) == {"Sram", "Dram"}
    assert alone.sram_bytes > shared.sram_bytes  # it holds the weights as well
    with pytest.raises(ArgumentError, match="Dedicated_Sram keeps activations in OffChipFlash of system Ethos_U55"):
        compile_tflite(file, "ethos-u55-256", memory_mode="Dedicated_Sram")


def test_activations_count_wherever_they_lie_and_parameters_with_biases_and_scales() -> None:
    torch.manual_seed(0)
    wide, x = nn.Conv2d(8, 1024, 1), torch.randn(1, 8, 24, 24)
    file = write(wide, x, [x])
    cache, whole = (compile_tflite(file, "ethos-u85-512", memory_mode=mode) for mode in (None, "Shared_Sram"))
    both = 24 * 24 * (8 + 1024)  # input and output are alive at once
    assert cache.sram_bytes < 393216 < both <= cache.peak_bytes
    assert both <= whole.peak_bytes == whole.sram_bytes
    for found in (cache, whole):
        assert found.parameter_bytes == pytest.approx(found.weight_bytes + 10 * 1024, abs=64)
    alone = compile_tflite(file, "ethos-u55-256", memory_mode="Sram_Only")
    assert both <= alone.peak_bytes == alone.sram_bytes - alone.parameter_bytes


def test_what_vela_does_not_know_is_refused_with_the_nearest(file: bytes) -> None:
    with pytest.raises(ArgumentError, match="no accelerator 'ethos-u55-250'.*Did you mean 'ethos-u55-256'"):
        compile_tflite(file, "ethos-u55-250")
    with pytest.raises(ArgumentError, match="no Memory_Mode 'Shared'"):
        compile_tflite(file, "ethos-u55-256", memory_mode="Shared")
    with pytest.raises(ArgumentError, match="no System_Config 'fast'"):
        compile_tflite(file, "ethos-u55-256", system="fast")
    with pytest.raises(ArgumentError, match="has TFL3 in its bytes 4 to 8, got b'etwo'"):
        compile_tflite(b"no network at all", "ethos-u55-256")
    with pytest.raises(ArgumentError, match="no Ethos-U is called 'ethos'"):
        ethos_u("ethos")


def test_what_is_left_to_the_host_is_said_with_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    """Vela resizes by powers of two alone on an Ethos-U85."""
    module, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Upsample(scale_factor=3, mode="bilinear")), torch.randn(1, 3, 8, 8)
    found = compile_tflite(write(module, x, [x]), "ethos-u85-256")
    assert found.host_operators == 1
    assert any("power of two" in reason or "power-of-two" in reason for reason in found.host_reasons), (
        found.host_reasons
    )
    assert [row.on_npu for row in found.operators].count(False) == 1
    assert "Reason" not in capfd.readouterr().err


def test_graphs_and_files_cost_the_same(module: nn.Module, file: bytes) -> None:
    """Weights differ, so their compressed size may by a little; activations and work do not."""
    chip = ethos_u("ethos-u85-512")
    graph = trace(module, torch.randn(1, 3, 64, 64))
    drawn, written = Vela().estimate(graph, chip), Vela().estimate(file, chip)
    assert drawn.latency_s == pytest.approx(written.latency_s, rel=0.03)
    assert drawn.peak_bytes == pytest.approx(written.peak_bytes, rel=0.03)
    rows = Vela().breakdown(graph, chip)
    assert [row.name for row in rows] == [operator.name for operator in graph.operators]
    assert sum(row.cost.latency_s for row in rows) == pytest.approx(drawn.latency_s, rel=1e-9)
    assert sum(row.cost.energy_j for row in rows) == pytest.approx(drawn.energy_j, rel=1e-9)
    assert sum(row.cost.latency_s for row in Vela().breakdown(file, chip)) == pytest.approx(written.latency_s)


class Single(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(())


def test_a_constant_of_no_values_is_refused() -> None:
    """Vela would end the process if that had the empty buffer of activations."""
    with pytest.raises(ArgumentError, match="Does not have valid TFLite Semantics"):
        compile_tflite(write(Single(), torch.ones(1), [torch.ones(1)]), "ethos-u85-512")


class TestVela(EstimatorChecks):
    def estimator(self) -> Estimator:
        return Vela()

    def chip(self) -> Chip:
        return ethos_u("ethos-u85-512")

    def dtypes(self) -> tuple[str, ...]:
        return ("int8",)

    def test_the_peak_of_memory_is_that_of_the_graph(self) -> None:
        """A compiler knows better: it fuses, and keeps weights it fetched ahead."""
        assert self.estimate(example_graph()).peak_bytes > 0


def test_it_is_an_estimator_of_int8_on_an_ethos_alone() -> None:
    chip: Chip = ethos_u("ethos-u55-256")
    assert isinstance(Vela(), Estimator)
    with pytest.raises(ArgumentError, match="computes in int8.*got 'bf16'"):
        Vela().estimate(example_graph(), chip, "bf16")
