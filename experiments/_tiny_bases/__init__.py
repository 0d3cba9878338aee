"""What the tiny bases of the shapes world have in common: how they are trained, written, drawn with and measured."""
