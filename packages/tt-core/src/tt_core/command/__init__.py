"""The command `tt`, the table of the journey and the milestones of Act I."""
