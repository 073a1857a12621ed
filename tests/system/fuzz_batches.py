"""What `scripts/fuzz` sends over HTTP, all of it."""

from hypothesis import strategies as st

from system.fuzz_openai import OF_AI_SDK, OF_CHAT, OF_RESPONSES
from system.fuzz_requests import CHAT_CREATES, CREATES, ENDS, MUTATIONS, READS, REQUESTS

BATCHES = st.lists(
    st.one_of(
        REQUESTS, CREATES, MUTATIONS, READS, READS, ENDS, CHAT_CREATES, OF_RESPONSES, OF_RESPONSES, OF_CHAT, OF_AI_SDK
    ),
    min_size=1,
    max_size=12,
)
"""Requests of one connection, one after the other. A `Mutation` is the last on its connection."""
