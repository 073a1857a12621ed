"""Event streams: a hub for the process, a live tail for each log, a cursor and a connection for each client."""
