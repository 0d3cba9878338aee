"""Where the work of a stage is done."""
