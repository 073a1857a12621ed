"""How generations end: by request, at a deadline, or because every process that ran them died."""
