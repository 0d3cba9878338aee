"""How the shipped base of the shapes world was trained: autoencoder first, then the joint model."""
