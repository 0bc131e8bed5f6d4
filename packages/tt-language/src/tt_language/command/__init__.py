"""What Act IV adds to the command `tt`: rows of the journey and the milestone of 2017."""
