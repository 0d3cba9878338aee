"""Parts of the study of planning before drawing (`experiments/tiny_think.py`)."""
