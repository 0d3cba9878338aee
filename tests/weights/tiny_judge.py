"""A vision-language model of a few thousand random weights, as transformers stores it."""

_TEMPLATE = ("{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}<image> "
             "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}")
_WORDS = ("<unk>", "<s>", "</s>", "<image>", "SCORE:", "0.5", "REASON:", "fine")


def write_judge(directory):
    """Writes model, tokenizer, chat template and settings for images; returns the directory."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    LlavaForConditionalGeneration(LlavaConfig(
        vision_config=CLIPVisionConfig(**size, image_size=16, patch_size=8, projection_dim=16),
        text_config=LlamaConfig(**size, vocab_size=len(_WORDS), max_position_embeddings=256, eos_token_id=2),
        image_token_index=3, vision_feature_layer=-1)).save_pretrained(directory)
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(_WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
                                        pad_token="</s>", additional_special_tokens=["<image>"])
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    LlavaProcessor(images, tokenizer, patch_size=8, vision_feature_select_strategy="default",
                   num_additional_image_tokens=1,  # that of the class, which is not used
                   chat_template=_TEMPLATE).save_pretrained(directory)
    return directory
