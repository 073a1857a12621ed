"""OpenAI's API over generations.

chat ──▶ foreground ──▶ answers ──▶ errors     one module for each resource, on what they share
               └──────▶ retries                create a generation, or find the one that a request repeats
webhooks                                       endpoints that receive what has ended
models                                         the models that a caller may name
lookup                                         ids of this API, and the generations that they name
"""
