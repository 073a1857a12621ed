"""HTTP in, bytes out. A frontend holds no upstream data: what it serves it reads from the log."""
