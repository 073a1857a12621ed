"""Upstream in, log out. A worker does not know its readers."""
