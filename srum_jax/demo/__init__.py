"""A page on which a model draws, is asked, edits, judges its own picture and weighs it."""
