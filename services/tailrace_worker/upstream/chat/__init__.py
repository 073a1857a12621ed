"""Chat Completions as an upstream speaks it: chunks in, events out."""
