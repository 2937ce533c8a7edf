"""Detectors of the hub's kinds, tiny and with random weights, in folders as `save_pretrained` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from masklet.detect.huggingface_files import silence_transformers

NAMES = {0: "person", 1: "dog", 2: "leash"}
RESNET = {
    "model_type": "rt_detr_resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16, 20],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}
HYBRID: dict[str, Any] = {
    "encoder_hidden_dim": 16,
    "encoder_in_channels": [12, 16, 20],
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "d_model": 16,
    "num_queries": 12,
    "decoder_in_channels": [16, 16, 16],
    "decoder_ffn_dim": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "num_denoising": 0,
    "hidden_expansion": 0.5,
    "anchor_image_size": None,
}
"""What RT-DETR, RT-DETRv2 and D-FINE have in common."""
LAYERS: dict[str, Any] = {
    "num_queries": 10,
    "encoder_layers": 1,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
"""What DETR and Grounding DINO have in common."""


def make(kind: str, folder: Path) -> Path:
    """A detector of this kind in `folder`, the same for the same kind."""
    torch.manual_seed(0)
    MAKERS[kind](folder)
    return folder


def _save(folder: Path, network: Any, processor: Any, gain: float = 2.0, noise: float = 0.1) -> None:
    for parameter in network.parameters():  # as networks are started, all their answers are much alike
        if parameter.ndim > 1:
            parameter.data.mul_(gain).add_(torch.randn(parameter.shape) * noise)
    with silence_transformers():
        network.save_pretrained(folder)
        processor.save_pretrained(folder)


def _hybrid(config: Any, network: Any, folder: Path) -> None:
    from transformers import RTDetrImageProcessorPil

    _save(folder, network(config), RTDetrImageProcessorPil(size={"height": 64, "width": 64}))


def _rt_detr(folder: Path) -> None:
    from transformers import RTDetrConfig, RTDetrForObjectDetection

    _hybrid(RTDetrConfig(backbone_config=RESNET, id2label=NAMES, **HYBRID), RTDetrForObjectDetection, folder)


def _rt_detr_v2(folder: Path) -> None:
    from transformers import RTDetrV2Config, RTDetrV2ForObjectDetection

    _hybrid(RTDetrV2Config(backbone_config=RESNET, id2label=NAMES, **HYBRID), RTDetrV2ForObjectDetection, folder)


def _d_fine(folder: Path) -> None:
    from transformers import DFineConfig, DFineForObjectDetection

    trunk = {
        "model_type": "hgnet_v2",
        "embedding_size": 8,
        "hidden_sizes": [8, 12, 16, 20],
        "depths": [1, 1, 1, 1],
        "stem_channels": [3, 8, 8],
        "stage_in_channels": [8, 8, 12, 16],
        "stage_mid_channels": [4, 4, 4, 4],
        "stage_out_channels": [8, 12, 16, 20],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [1, 1, 1, 1],
        "out_features": ["stage2", "stage3", "stage4"],
    }
    _hybrid(DFineConfig(backbone_config=trunk, id2label=NAMES, **HYBRID), DFineForObjectDetection, folder)


def _detr(folder: Path) -> None:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil

    config = DetrConfig(
        backbone_config={
            "model_type": "resnet",
            "embedding_size": 8,
            "hidden_sizes": [8, 8, 8, 8],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
            "out_features": ["stage4"],
        },
        id2label=NAMES,
        d_model=16,
        decoder_layers=1,
        **LAYERS,
    )
    processor = DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    _save(folder, DetrForObjectDetection(config), processor)


def _grounding_dino(folder: Path) -> None:
    from transformers import (
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
    )

    tokenizer = _bert_tokenizer()
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin",
            "image_size": 64,
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": 4,
            "out_features": ["stage2", "stage3", "stage4"],
        },
        text_config={
            "model_type": "bert",
            "vocab_size": 1100,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
        d_model=32,
        decoder_layers=2,
        **LAYERS,
        max_text_len=24,
    )
    processor = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    _save(folder, GroundingDinoForObjectDetection(config), processor)
    tokenizer.save_pretrained(folder)


def _owlv2(folder: Path) -> None:
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil

    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Owlv2Config(
        text_config={**tower, "vocab_size": 64, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2},
        vision_config={**tower, "image_size": 64, "patch_size": 8},
        projection_dim=16,
    )
    processor = Owlv2ImageProcessorPil(size={"height": 64, "width": 64})
    _save(folder, Owlv2ForObjectDetection(config), processor, gain=0.25, noise=0.01)
    _word_tokenizer().save_pretrained(folder)


def _bert_tokenizer() -> Any:
    """Whole words as BERT's tokenizer numbers its special ones, which the network knows by number."""
    from transformers import BertTokenizer

    special = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    words = {word: 1030 + i for i, word in enumerate(("a", "dog", "leash", "red", "car"))}
    return BertTokenizer(vocab={**special, **words})


def _word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", "a", "dog", "leash", "red", "car"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


MAKERS = {
    "rt_detr": _rt_detr,
    "rt_detr_v2": _rt_detr_v2,
    "d_fine": _d_fine,
    "detr": _detr,
    "grounding_dino": _grounding_dino,
    "owlv2": _owlv2,
}
