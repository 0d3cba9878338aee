"""Checkpoints of detectors and of CLIP with random weights, a few thousand values each."""

import tokenizers
import torch
import transformers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

WORDS = ["!", "<|startoftext|>", "<|endoftext|>", "a", "photo", "of", "cup", "dog", "red", "orange", "yellow", "green",
         "blue", "purple", "pink", "brown", "black", "white"]
_TEXT = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
         "num_attention_heads": 2, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2,
         "pad_token_id": 0}
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "image_size": 32, "patch_size": 16}


def tokenizer():
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="!"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", 1), ("<|endoftext|>", 2)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="!", unk_token="!",
        model_max_length=16)


def write_open_vocabulary(directory):
    torch.manual_seed(0)
    config = transformers.OwlViTConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=16)
    transformers.OwlViTForObjectDetection(config).save_pretrained(directory)
    images = OwlViTImageProcessorPil(size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32})
    transformers.OwlViTProcessor(images, tokenizer()).save_pretrained(directory)
    return directory


def write_coco(directory):
    torch.manual_seed(0)
    config = transformers.YolosConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=[32, 32],
        patch_size=16, num_detection_tokens=5, id2label={0: "cup", 1: "dog"}, label2id={"cup": 0, "dog": 1})
    transformers.YolosForObjectDetection(config).save_pretrained(directory)
    YolosImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(directory)
    return directory


def write_clip(directory):
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(directory)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.CLIPProcessor(images, tokenizer()).save_pretrained(directory)
    return directory
