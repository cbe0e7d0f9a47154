# SPDX-License-Identifier: Apache-2.0
"""The models that `migration_corpus.py` migrates: random weights, small configurations, BERT-base at its real size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

IMAGE, IDS = (1, 3, 64, 64), (2, 16)


@dataclass(frozen=True)
class Entry:
    """One model.

    Args:
        name: of the model.
        make: builds it in evaluation mode, with example inputs.
        published: whether AWS publishes the architecture as running (throughput tables, supported-model lists).
        chip: where it goes.
        tolerance: error of the output that is allowed.
    """

    name: str
    make: Callable[[], tuple[nn.Module, Any]]
    published: bool = False
    chip: str = "trainium1"
    tolerance: float = 0.02


def ids(*shape: int, high: int = 90) -> Tensor:
    """Token numbers."""
    return torch.randint(3, high, shape or IDS, generator=torch.Generator().manual_seed(0))


def pixels(*shape: int) -> Tensor:
    """An image of noise."""
    return torch.randn(*(shape or IMAGE), generator=torch.Generator().manual_seed(0))


class First(nn.Module):
    """A model of `transformers` as a function of positional tensors: only the tensors of its answer come back."""

    def __init__(self, inner: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.inner, self.names = inner, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """All tensors of the answer that are no cache."""
        options = {"use_cache": False} if "use_cache" in getattr(self.inner.config, "__dict__", {}) else {}
        answer = self.inner(**dict(zip(self.names, inputs, strict=True)), **options)
        return tuple(item for item in answer.to_tuple() if isinstance(item, Tensor))


def hugging(model: str, config: str, example: dict[str, Callable[[], Tensor]], **sizes: Any) -> Callable[[], Any]:  # noqa: ANN401
    """A model of `transformers` with random weights."""

    def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
        import transformers

        torch.manual_seed(0)
        settings = getattr(transformers, config)(**sizes)
        return First(getattr(transformers, model)(settings).eval(), tuple(example)).eval(), tuple(
            value() for value in example.values()
        )

    return make


TEXT = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
SEEN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 64}
DECODER = {**TEXT, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0}
TOKENS, PICTURE = {"input_ids": ids}, {"pixel_values": pixels}
BOTH = {"input_ids": ids, "attention_mask": lambda: torch.ones(IDS, dtype=torch.int64)}
PAIR = {"input_ids": ids, "decoder_input_ids": ids}


def plain(build: Callable[[], nn.Module], *example: Tensor) -> Callable[[], Any]:
    """A module of torch itself."""

    def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
        torch.manual_seed(0)
        return build().eval(), example

    return make


def convolution(inputs: int, outputs: int, stride: int = 1, groups: int = 1, size: int = 3) -> nn.Sequential:
    """Convolution, batch norm, rectifier."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):
    """A bottleneck as in ResNet-50."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            convolution(width, width // 4, size=1),
            convolution(width // 4, width // 4),
            convolution(width // 4, width, size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The input and what three convolutions add."""
        return nn.functional.relu(x + self.inner(x))


class UNet(nn.Module):
    """Down, up, and across."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.down = convolution(3, 16), nn.Sequential(nn.MaxPool2d(2), convolution(16, 32))
        self.up, self.end = (
            nn.ConvTranspose2d(32, 16, 2, stride=2),
            nn.Sequential(convolution(32, 16), nn.Conv2d(16, 2, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """A class for every pixel."""
        wide = self.start(x)
        return self.end(torch.cat([wide, self.up(self.down(wide))], 1))


class Detector(nn.Module):
    """Convolutions with SiLU and two scales, as the YOLO family has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.SiLU()
        )
        self.pool = nn.ModuleList([nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13)])
        self.mix, self.head = nn.Conv2d(128, 32, 1), nn.Conv2d(64, 18, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Boxes and scores on a grid."""
        deep = self.stem(x)
        deep = self.mix(torch.cat([deep, *(pool(deep) for pool in self.pool)], 1))
        large = nn.functional.interpolate(deep, scale_factor=2.0, mode="nearest")
        small = nn.functional.max_pool2d(large, 2)
        return self.head(torch.cat([deep, small], 1)).flatten(2).sigmoid()


class Mobile(nn.Module):
    """Inverted bottlenecks with depthwise convolutions and hard swish."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(3, 16, 2),
            nn.Conv2d(16, 64, 1),
            nn.Hardswish(),
            convolution(64, 64, 1, 64),
            nn.Conv2d(64, 16, 1),
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of ten classes."""
        return self.head(self.body(x).mean((2, 3)))


class Sequence(nn.Module):
    """A recurrent network over tokens."""

    def __init__(self, kind: type[nn.Module], *, both: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 16)
        self.inner = kind(16, 24, num_layers=2, batch_first=True, bidirectional=both)
        self.head = nn.Linear(48 if both else 24, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores from the last step."""
        return self.head(self.inner(self.table(tokens))[0][:, -1])


def vgg() -> nn.Module:
    """Plain convolutions, as in VGG-16."""
    return nn.Sequential(
        convolution(3, 16), convolution(16, 16), nn.MaxPool2d(2), convolution(16, 32), convolution(32, 32),
        nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(4),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10),
    )  # fmt: skip


def bottlenecks() -> nn.Module:
    """A stem and bottlenecks, as in ResNet-50."""
    return nn.Sequential(
        convolution(3, 64, 2, size=7),
        nn.MaxPool2d(3, 2, 1),
        Residual(64),
        Residual(64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def forecaster(name: str) -> Callable[[], Any]:
    """A forecaster of this package after one step of training."""

    def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
        import sirdar
        from sirdar.testing.forecasters import example_panel

        model = getattr(sirdar, name)(4, steps=1).fit(example_panel())
        return model.inference(8)

    return make


def perceiver() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A text perceiver."""
    import transformers

    torch.manual_seed(0)
    config = transformers.PerceiverConfig(
        num_latents=8, d_latents=32, d_model=32, num_blocks=1, num_self_attends_per_block=2, num_self_attention_heads=4,
        num_cross_attention_heads=4, vocab_size=100, max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.PerceiverForMaskedLM(config).eval()
    return First(model, ("inputs",)).eval(), (ids(),)


MODELS: tuple[Entry, ...] = (
    Entry("bert-base", hugging("BertModel", "BertConfig", {"input_ids": lambda: ids(1, 128, high=30_000)}), True),
    Entry("bert", hugging("BertForSequenceClassification", "BertConfig", BOTH, **TEXT), True, "inferentia1"),
    Entry(
        "distilbert",
        hugging(
            "DistilBertModel", "DistilBertConfig", BOTH, vocab_size=100, dim=32, n_layers=2, n_heads=4, hidden_dim=64
        ),
        True,
        "inferentia1",
    ),
    Entry("roberta", hugging("RobertaModel", "RobertaConfig", BOTH, **TEXT), True, "inferentia2"),
    Entry("xlm-roberta", hugging("XLMRobertaModel", "XLMRobertaConfig", BOTH, **TEXT), True, "inferentia2"),
    Entry("albert", hugging("AlbertModel", "AlbertConfig", BOTH, **TEXT, embedding_size=16), True, "inferentia2"),
    Entry("electra", hugging("ElectraModel", "ElectraConfig", BOTH, **TEXT, embedding_size=16), True, "inferentia2"),
    Entry("llama", hugging("LlamaForCausalLM", "LlamaConfig", TOKENS, **DECODER), True, "trainium1"),
    Entry("mistral", hugging("MistralForCausalLM", "MistralConfig", TOKENS, **DECODER), True, "trainium2"),
    Entry(
        "t5",
        hugging("T5Model", "T5Config", PAIR, vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
        True,
        "inferentia2",
    ),
    Entry("vit", hugging("ViTModel", "ViTConfig", PICTURE, **SEEN, patch_size=16), True, "inferentia2"),
    Entry(
        "clip",
        hugging(
            "CLIPModel",
            "CLIPConfig",
            {**BOTH, **PICTURE},
            text_config={**TEXT, "max_position_embeddings": 16, "eos_token_id": 2},
            vision_config={**SEEN, "patch_size": 16},
            projection_dim=16,
        ),
        True,
        "trainium1",
    ),
    Entry("perceiver", perceiver, True, "inferentia2"),
    Entry(
        "resnet",
        hugging(
            "ResNetForImageClassification",
            "ResNetConfig",
            PICTURE,
            embedding_size=16,
            hidden_sizes=[16, 32],
            depths=[1, 1],
            num_labels=10,
        ),
        True,
        "inferentia2",
    ),
    Entry("resnet bottlenecks", plain(bottlenecks, pixels()), True, "inferentia1"),
    Entry("vgg", plain(vgg, pixels()), True, "inferentia2"),
    Entry("u-net", plain(UNet, pixels()), True, "inferentia2"),
    Entry("yolo", plain(Detector, pixels()), True, "inferentia1"),
    Entry(
        "gpt2",
        hugging(
            "GPT2LMHeadModel", "GPT2Config", TOKENS, vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=32
        ),
        True,
        "trainium1",
    ),
    Entry(
        "whisper",
        hugging(
            "WhisperModel",
            "WhisperConfig",
            {"input_features": lambda: pixels(1, 8, 64), "decoder_input_ids": lambda: ids(1, 8)},
            vocab_size=100,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            num_mel_bins=8,
            max_source_positions=32,
            max_target_positions=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        ),
    ),
    Entry(
        "bart",
        hugging(
            "BartModel",
            "BartConfig",
            PAIR,
            vocab_size=100,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=32,
            forced_eos_token_id=2,
        ),
    ),
    Entry(
        "swin",
        hugging(
            "SwinModel",
            "SwinConfig",
            PICTURE,
            image_size=64,
            patch_size=4,
            embed_dim=16,
            depths=[1, 1],
            num_heads=[2, 4],
            window_size=4,
        ),
    ),
    Entry(
        "segformer",
        hugging(
            "SegformerForSemanticSegmentation",
            "SegformerConfig",
            PICTURE,
            num_encoder_blocks=2,
            depths=[1, 1],
            sr_ratios=[4, 2],
            hidden_sizes=[16, 32],
            patch_sizes=[7, 3],
            strides=[4, 2],
            num_attention_heads=[1, 2],
            mlp_ratios=[2, 2],
            decoder_hidden_size=32,
            num_labels=4,
        ),
    ),
    Entry(
        "yolos",
        hugging(
            "YolosForObjectDetection",
            "YolosConfig",
            PICTURE,
            **{**SEEN, "image_size": [64, 64]},
            patch_size=16,
            num_detection_tokens=5,
            num_labels=3,
        ),
    ),
    Entry("deit", hugging("DeiTModel", "DeiTConfig", PICTURE, **SEEN, patch_size=16)),
    Entry("beit", hugging("BeitModel", "BeitConfig", PICTURE, **SEEN, patch_size=16)),
    Entry(
        "dinov2",
        hugging(
            "Dinov2Model",
            "Dinov2Config",
            PICTURE,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=64,
            patch_size=16,
        ),
    ),
    Entry(
        "convnext",
        hugging("ConvNextModel", "ConvNextConfig", PICTURE, hidden_sizes=[16, 32], depths=[1, 1], num_stages=2),
    ),
    Entry(
        "mobilenet-v2", hugging("MobileNetV2Model", "MobileNetV2Config", PICTURE, depth_multiplier=0.25, image_size=64)
    ),
    Entry(
        "regnet",
        hugging(
            "RegNetModel",
            "RegNetConfig",
            PICTURE,
            embedding_size=16,
            hidden_sizes=[16, 32],
            depths=[1, 1],
            groups_width=8,
        ),
    ),
    Entry(
        "opt",
        hugging(
            "OPTForCausalLM",
            "OPTConfig",
            BOTH,
            vocab_size=100,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            ffn_dim=64,
            max_position_embeddings=32,
            word_embed_proj_dim=32,
        ),
    ),
    Entry("qwen2", hugging("Qwen2ForCausalLM", "Qwen2Config", TOKENS, **DECODER), chip="trainium2"),
    Entry("gemma", hugging("GemmaForCausalLM", "GemmaConfig", TOKENS, **DECODER, head_dim=8), chip="trainium3"),
    Entry(
        "phi", hugging("PhiForCausalLM", "PhiConfig", TOKENS, **{**DECODER, "num_key_value_heads": 4}), chip="trainium3"
    ),
    Entry(
        "gpt-neox",
        hugging("GPTNeoXForCausalLM", "GPTNeoXConfig", TOKENS, **TEXT, max_position_embeddings=32),
        chip="h100",
    ),
    Entry(
        "deberta-v2",
        hugging(
            "DebertaV2Model",
            "DebertaV2Config",
            BOTH,
            **TEXT,
            relative_attention=True,
            max_position_embeddings=32,
            pos_att_type=["p2c", "c2p"],
        ),
        chip="h100",
    ),
    Entry(
        "wav2vec2",
        hugging(
            "Wav2Vec2Model",
            "Wav2Vec2Config",
            {"input_values": lambda: pixels(1, 400)},
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            conv_dim=[16, 16],
            conv_stride=[5, 2],
            conv_kernel=[10, 3],
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
        ),
    ),
    Entry("mq-cnn", forecaster("MQCNN"), tolerance=0.02),
    Entry("mq-rnn", forecaster("MQRNN"), chip="inferentia2"),
    Entry("mq-transformer", forecaster("MQTransformer"), chip="trainium2"),
    Entry("mobile", plain(Mobile, pixels()), chip="inferentia2"),
    Entry("lstm", plain(lambda: Sequence(nn.LSTM), ids(2, 8)), chip="inferentia2"),
    Entry("gru", plain(lambda: Sequence(nn.GRU), ids(2, 8)), chip="graviton3"),
    Entry("two-way lstm", plain(lambda: Sequence(nn.LSTM, both=True), ids(2, 8)), chip="trainium1"),
    Entry(
        "encoder of torch",
        plain(
            lambda: nn.TransformerEncoder(
                nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2, enable_nested_tensor=False
            ),
            pixels(2, 10, 32),
        ),
        chip="h200",
    ),
    Entry(
        "wide perceptron",
        plain(
            lambda: nn.Sequential(
                nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 2048), nn.GELU(), nn.Linear(2048, 512)
            ),
            pixels(256, 512),
        ),
        chip="trainium2",
        tolerance=0.05,
    ),
)
