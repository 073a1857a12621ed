"""`scripts/compatibility`: which servers Tailrace was run on, and with which results."""
