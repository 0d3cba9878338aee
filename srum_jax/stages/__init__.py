"""What the stages of a run share: folders, units of work, settings that are compared, processes, being stopped."""

GENERATE, SEGMENT, JUDGE = STAGES = ("generate", "segment", "judge")  # each reads what those before it wrote
EXPORT = "export"
STAGE_VERSION = 1  # of what they write
