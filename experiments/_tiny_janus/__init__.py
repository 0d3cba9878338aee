"""How the tiny Janus-Pro of the shapes world is trained; see `experiments.tiny_pretrain`."""
