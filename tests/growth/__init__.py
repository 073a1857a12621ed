"""`scripts/growth`: how each cost grows with the work that there is."""
