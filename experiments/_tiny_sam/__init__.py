"""Parts of `experiments.tiny_sam`: its pictures and prompts, model, losses, training and measurement."""
