# SPDX-License-Identifier: Apache-2.0
"""The models that `migration_corpus.py` migrates: random weights, small configurations, BERT-base at its real size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from migration_networks import Detector, Mobile, Sequence, UNet, bottlenecks, vgg
from torch import Tensor, nn

IMAGE, IDS = (1, 3, 64, 64), (2, 16)


@dataclass(frozen=True)
class Entry:
    """One model.

    Args:
        name: of the model.
        make: builds it in evaluation mode, with example inputs.
        published: the row of AWS's inference benchmarks that says this architecture runs on this chip, as the
            Neuron documentation names it (chip: model); empty for none.
        chip: where it goes.
        tolerance: error of the output that is allowed.
    """

    name: str
    make: Callable[[], tuple[nn.Module, Any]]
    published: str = ""
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


def settled(module: nn.Module, example: tuple[Tensor, ...]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The module with the statistics of its example in its batch norms; values would fade to nothing without."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    if norms:
        with torch.no_grad():
            module(*example)
    return module.eval(), example


def hugging(model: str, config: str, example: dict[str, Callable[[], Tensor]], **sizes: Any) -> Callable[[], Any]:  # noqa: ANN401
    """A model of `transformers` with random weights."""

    def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
        import transformers

        torch.manual_seed(0)
        module = getattr(transformers, model)(getattr(transformers, config)(**sizes)).eval()
        return settled(First(module, tuple(example)).eval(), tuple(value() for value in example.values()))

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
        return settled(build().eval(), example)

    return make


def forecaster(name: str) -> Callable[[], Any]:
    """A forecaster of this package after one step of training."""

    def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
        import sirdar
        from sirdar.testing.forecasters import example_panel

        model = getattr(sirdar, name)(4, steps=1).fit(example_panel())
        return model.inference(8)

    return make


def camera(name: str) -> Callable[[], Any]:
    """The smallest network that this package's search builds for a camera product."""

    def make() -> tuple[nn.Module, tuple[Tensor, ...]]:
        from importlib import import_module

        product = import_module(f"sirdar.recipes.{name}").PRODUCT
        candidate = product.space.smallest()
        return settled(product.network(candidate).eval(), (product.example(candidate),))

    return make


LATENTS = {
    "num_latents": 8, "d_latents": 32, "num_blocks": 1, "num_self_attends_per_block": 2, "num_self_attention_heads": 4,
    "num_cross_attention_heads": 4,
}  # fmt: skip

MODELS: tuple[Entry, ...] = (
    Entry(
        "bert-base",
        hugging("BertModel", "BertConfig", {"input_ids": lambda: ids(1, 128, high=30_000)}),
        "trn1: bert-base-uncased",
    ),
    Entry(
        "bert",
        hugging("BertForSequenceClassification", "BertConfig", BOTH, **TEXT),
        "inf1: BERT base (bert-base-uncased)",
        "inferentia1",
    ),
    Entry(
        "distilbert",
        hugging(
            "DistilBertModel", "DistilBertConfig", BOTH, vocab_size=100, dim=32, n_layers=2, n_heads=4, hidden_dim=64
        ),
        "inf1: DistilBERT base (distilbert-base-uncased)",
        "inferentia1",
    ),
    Entry("roberta", hugging("RobertaModel", "RobertaConfig", BOTH, **TEXT), "inf2: roberta-base", "inferentia2"),
    Entry(
        "xlm-roberta",
        hugging("XLMRobertaModel", "XLMRobertaConfig", BOTH, **TEXT),
        "inf2: xlm-roberta-base",
        "inferentia2",
    ),
    Entry(
        "distilroberta",
        hugging("RobertaModel", "RobertaConfig", BOTH, **{**TEXT, "num_hidden_layers": 1}),
        "inf1: DistilRoBERTa base (distilroberta-base)",
        "inferentia1",
    ),
    Entry(
        "albert",
        hugging("AlbertModel", "AlbertConfig", BOTH, **TEXT, embedding_size=16),
        "inf2: albert-base-v2",
        "inferentia2",
    ),
    Entry(
        "electra",
        hugging("ElectraModel", "ElectraConfig", BOTH, **TEXT, embedding_size=16),
        "inf2: google/electra-base-discriminator",
        "inferentia2",
    ),
    Entry("llama", hugging("LlamaForCausalLM", "LlamaConfig", TOKENS, **DECODER), "trn1: Llama-2-7b", "trainium1"),
    Entry(
        "mistral",
        hugging("MistralForCausalLM", "MistralConfig", TOKENS, **DECODER),
        "trn1: Mistral-7B-Instruct-v0.2",
        "trainium1",
    ),
    Entry(
        "t5",
        hugging("T5Model", "T5Config", PAIR, vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
        "inf2: t5-3b",
        "inferentia2",
    ),
    Entry(
        "flan-t5",
        hugging(
            "T5Model",
            "T5Config",
            PAIR,
            vocab_size=100,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        ),
        "trn1: google/flan-t5-xl",
        "trainium1",
    ),
    Entry(
        "vit",
        hugging("ViTModel", "ViTConfig", PICTURE, **SEEN, patch_size=16),
        "inf2: google/vit-base-patch16-224",
        "inferentia2",
    ),
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
        "inf2: openai/clip-vit-base-patch32",
        "inferentia2",
    ),
    Entry(
        "perceiver of text",
        hugging(
            "PerceiverForMaskedLM",
            "PerceiverConfig",
            {"inputs": ids},
            **LATENTS,
            d_model=32,
            vocab_size=100,
            max_position_embeddings=16,
        ),
        chip="inferentia2",
    ),
    Entry(
        "perceiver",
        hugging(
            "PerceiverForImageClassificationLearned",
            "PerceiverConfig",
            {"inputs": lambda: pixels(1, 3, 16, 16)},
            **LATENTS,
            d_model=512,
            image_size=16,
            num_labels=10,
        ),
        "inf2: deepmind/vision-perceiver-learned",
        "inferentia2",
    ),
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
        "inf2: resnet18",
        "inferentia2",
    ),
    Entry("resnet bottlenecks", plain(bottlenecks, pixels()), "inf1: Resnet-50", "inferentia1"),
    Entry("vgg", plain(vgg, pixels()), "inf2: vgg16", "inferentia2"),
    Entry("u-net", plain(UNet, pixels()), "inf2: UNet", "inferentia2"),
    Entry("yolo", plain(Detector, pixels()), "inf1: YOLO v4", "inferentia1"),
    Entry(
        "gpt2",
        hugging(
            "GPT2LMHeadModel", "GPT2Config", TOKENS, vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=32
        ),
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
    Entry(
        "detr",
        hugging(
            "DetrForObjectDetection",
            "DetrConfig",
            PICTURE,
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            backbone=None,
            backbone_config={
                "model_type": "resnet",
                "embedding_size": 16,
                "hidden_sizes": [16, 32],
                "depths": [1, 1],
                "out_features": ["stage2"],
            },
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            num_queries=5,
            num_labels=3,
        ),
        chip="inferentia2",
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
    Entry("person detection", camera("detection"), chip="inferentia2"),
    Entry("camera classification", camera("classification"), chip="trainium1"),
    Entry("camera segmentation", camera("segmentation"), chip="graviton3"),
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
