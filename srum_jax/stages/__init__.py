"""What the stages of a run share: folders, units of work, settings that are compared, processes, being stopped."""

# Each reads what those before it wrote.
GENERATE, SEGMENT, LIKELIHOOD, JUDGE = STAGES = ("generate", "segment", "likelihood", "judge")
EXPORT = "export"
STAGE_VERSION = 1  # of what they write
