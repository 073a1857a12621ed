"""Event streams: one hub a process, a live tail a log, a reader a client."""
