"""Upstream in, log out. A worker never knows whether anybody reads."""
