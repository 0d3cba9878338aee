"""BAGEL: mixture of transformers over text, image patches and latents of an autoencoder."""
