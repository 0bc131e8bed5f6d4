"""What Act II adds to the command `tt`: rows of the journey, milestones and their data."""
