"""Online methods: outputs are drawn, rewarded and learnt from, round after round (SUDER)."""
