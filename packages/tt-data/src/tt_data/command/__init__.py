"""What Act III adds to the command `tt`: rows of the journey, `tt data`, the milestone and its pictures."""
