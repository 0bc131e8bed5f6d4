"""The exercises of Act II."""
