"""Model families: how each is packed, scored, drawn from and asked."""
