"""The exercises of Act IV."""
