"""From what a judge says about an image to scores: keywords, replies, verdicts, post-processing. No model is run."""
