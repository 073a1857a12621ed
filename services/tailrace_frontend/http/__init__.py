"""HTTP: what requests ask for, and the answers: routes, bodies, event streams, CORS, errors."""
