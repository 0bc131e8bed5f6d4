"""The part of Act III in the command `tt`: rows of the journey, `tt data`, the milestone and its pictures."""
