"""What the stages of a run share: folders, units of work, settings that are compared, processes, being stopped."""
