"""HTTP: routes, bodies, callers, CORS, and the connection beneath them."""
