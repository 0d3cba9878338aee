"""BLIP3o: a frozen Qwen2.5-VL whose states at learned queries condition a transformer over picture features."""
