"""Webhooks: signed messages about the ends of generations, to endpoints that callers have registered.

    an end ──▶ Outbox.add ──▶ a job ──▶ Outbox.claim ──▶ Sender.send ──▶ accepted: removed
                              ▲                               │
                              └──── a sweeper, once due ◀─────┴─ otherwise: due later, for 72 h

The form is that of Standard Webhooks (standardwebhooks.com), as OpenAI uses it. A message's id and bytes follow from
the generation, its end and the endpoint alone (`events`), so each process makes the same message, however often. A
receiver gets it at least once, always under the same id.

Endpoints and messages are on the log's server: the queue's server may lose everything at any moment (`queue.queue`). A
job only names an endpoint where something is due, and a lost job is replaced (`lifecycle.webhook_jobs`). On the log's
server a message is noted after `done` and before the generation leaves the index of the unfinished, so whatever moment
that server goes back to, it has the message, or a sweeper finalizes the end once more.
"""

from tailrace.webhooks.endpoints import CreationKey, Endpoint, EndpointRef, Endpoints
from tailrace.webhooks.outbox import Outbox, Webhook
from tailrace.webhooks.sender import Sender, Unreachable

__all__ = ["CreationKey", "Endpoint", "EndpointRef", "Endpoints", "Outbox", "Sender", "Unreachable", "Webhook"]
