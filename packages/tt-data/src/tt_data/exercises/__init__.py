"""The exercises of Act III."""
