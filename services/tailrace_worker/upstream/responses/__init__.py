"""The Responses dialect: requests to `/v1/responses`, and its events.

stream ──▶ payloads           the request, sent once
  └─▶ background_stream       taken up where the upstream keeps the answer
payload ─▶ translator ──▶ output ──▶ items | calls | others ──▶ state
                                     what one item's events are in the log
known                         the fields that the log has a place for
"""
