"""What Act V adds to the command `tt`, beside its modules."""
