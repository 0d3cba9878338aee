"""A procedural world of coloured shapes: prompts, pictures, and an oracle that scores any picture exactly."""
