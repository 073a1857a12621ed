"""How generations end: by request, at a limit, or after every process that ran them died; and what follows an end."""
