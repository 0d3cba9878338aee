"""Who proposes regions."""
