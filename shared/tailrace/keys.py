"""Every Redis key and channel of Tailrace.

    key                                    type    written by       read by          lives
    tailrace:{gen}:state                   hash    the scripts      every process    deadline + lease + retention from
                                                                                     create; retention from done
    tailrace:{gen}:log                     stream  the scripts      readers          as the state
    tailrace:{gen}:tombstone               hash    create, delete   readers, append  deadline + 2 × retention + 24 h
    tailrace:{gen}:shares                  hash    frontends        frontends        deadline + retention from create
    tailrace:{gen}:events                  channel append, finish   hubs             not stored
    tailrace:unfinished:<0-15>             set     Log.create       sweepers         a hint: an id leaves after done
    tailrace:swept:<0-15>                  string  sweepers         sweepers         a quarter of a lease
    tailrace:suspected:<0-15>              zset    suspect          sweepers         300 s
    tailrace:restoring                     string  workers          frontends        a lease from the last restore
    tailrace:{slot}:unfinished             set     Log.create       sweepers         in a cluster, for each slot
    tailrace:{slot}:swept                  string  sweepers         sweepers         in a cluster, for 1,024 slots
    tailrace:{slot}:suspected              zset    suspect          sweepers         the same
    tailrace:{slot}:restoring              string  workers          frontends        in a cluster, for each primary
    tailrace:{webhooks}:endpoints:<owner>  hash    frontends        every process    until its owner deletes them
    tailrace:{webhooks}:creation:<owner>:<hash>
                                           string  frontends        frontends        an hour from the registration
    tailrace:{webhooks}:pending            set     finalize         sweepers         endpoints where a webhook waits
    tailrace:{webhooks}:due:<endpoint>     zset    finalize         workers          until accepted or given up
    tailrace:{webhooks}:bodies:<endpoint>  hash    finalize         workers          the same
    tailrace:{webhooks}:tries:<endpoint>   hash    workers          workers          the same
    tailrace:{webhooks}:known:<webhook>    string  finalize         finalize         retention + 60 s from done
    tailrace:{webhooks}:swept              string  sweepers         sweepers         a quarter of a lease
    tailrace:{access}                      hash    frontends        frontends        keys, blocks, revocations
    tailrace:{access}:changed              channel change_access    frontends        not stored
    tailrace:{access}:used                 hash    frontends        frontends        a field leaves with its key
    tailrace:shares:<owner>                zset    frontends        frontends        an id leaves after its expiry
    tailrace:{audit}                       stream  add_to_audit     operators        its last 100,000 or so entries
    tailrace:{audit}:acts                  stream  add_to_audit     operators        the last 100,000 or so of acts
    tailrace:{audit}:added                 channel add_to_audit     frontends        not stored
    tailrace:{check}:<token>:<name>        each    every process    that process     until the check has ended
    tailrace:worker:<worker>               channel frontends        that worker      not stored
    tailrace:wake                          channel enqueue          workers          not stored
    tailrace:workers                       zset    workers          frontends        members expire after 3 leases
    tailrace:worker_status:<worker>        string  workers          the dashboard    3 leases
    tailrace:models:<worker>               string  workers          frontends        6 min from the worker's last report
    tailrace:models_failure:<worker>       string  workers          tailrace dev     6 min from the worker's last try
    tailrace:circuits                      channel fail, close      workers          not stored
    tailrace:upstream:<name>:circuit       hash    workers          workers          while it is open; a day at most
    tailrace:upstream:<name>:failures      zset    workers          workers          the window of failures
    tailrace:upstream:<name>:slots         zset    workers          workers          members expire after 3 leases
    tailrace:upstream:<name>:news          hash    workers          the dashboard    a day from the last change
    tailrace:upstream_calls                hash    workers          frontends        totals, never removed
    tailrace:upstream_report:<worker>      hash    workers          frontends        3 leases
    tailrace:generations                   zset    submit           the dashboard    an id leaves after its retention
    tailrace:owner:<owner>:generations     zset    submit           list             the same
    tailrace:owner:<owner>:unfinished      zset    submit           admission        an id leaves after done, or after
                                                                                     its deadline, the score
    tailrace:owner:<owner>:stored          hash    submit, worker   admission        bytes by id; an id leaves after its
                                                                                     retention
    tailrace:owner:<owner>:stored_until    zset    submit, worker   admission        the same ids, by expiry
    tailrace:owner:<owner>:owed            string  Queue.load       Queue.load       until its requests are paid for
    tailrace:owner:<owner>:use             hash    load, settle     load, frontends  tokens of this minute, day and
                                                                                     month; 40 days from the last end
    tailrace:owner:<owner>:reserved        hash    load, settle     settle           tokens and cost by id, until it
                                                                                     ends, or its deadline
    tailrace:owner:<owner>:reserved_until  zset    load, settle     load             the same ids, by deadline
    tailrace:owner:<owner>:settled         zset    settle           settle           an id leaves 2 h after its end
    tailrace:owner:<owner>:outputs         hash    settle           load             sizes of outputs by model; 40 days
    tailrace:callers                       hash    frontends        every process    until an operator deletes them
    tailrace:callers:changed               channel frontends        every process    not stored
    tailrace:readers                       hash    frontends        frontends        18 s from the last report
    tailrace:frontends:asked               channel frontends        frontends        not stored
    tailrace:frontends:answers:<token>     list    frontends        the dashboard    5 s from the last answer
    tailrace:idempotency:<owner>:<hash>    string  Queue.load       Queue.load       deadline + 2 × retention; for a
                                                                                     body alone, deadline + 180 s
    tailrace:owner:<owner>:chat:<hash>     string  POST /api/chat   /api/chat/{id}   deadline + retention
    tailrace:{stats}:<width>:<slot>        hash    flush_stats      the history      61 min; 3 days of ten minutes
    tailrace:{stats}:<width>:<slot>:durations
                                           string  flush_stats      the history      as the hash
    tailrace:{stats}:process:<process>:flushed
                                           string  flush_stats      flush_stats      a day from the last flush
    tailrace:queue                         zset    submit, enqueue  arq              a job leaves when it is taken
    tailrace:tags                          zset    the scripts      the scripts      until the queue is empty
    tailrace:parked                        hash    take, unpark     admission,       an owner leaves with its last
                                                                    sweepers         parked job
    tailrace:owner:<owner>:line            zset    submit, enqueue  take             a job leaves when it is taken
    tailrace:owner:<owner>:turns           hash    submit, take     take             as the line
    tailrace:owner:<owner>:running         zset    take, workers    take             members expire after 3 leases
    tailrace:owner:<owner>:parked          zset    take             unpark           a job leaves for the queue
    tailrace:waiting                       zset    submit, enqueue  frontends        jobs by their time of enqueueing;
                                                                                     one leaves when it is taken
    arq:job:{check}:<token>:<name>         string  every process    that process     until the check has ended
    arq:job:<job_id> and others            string  submit, enqueue  arq              arq's own

The rows up to `tailrace:worker` are on the log's server, the others on the queue's. The keys of one generation carry
its id as hash tag: they share a cluster slot, as a script's keys must. So do those of all webhooks,
those of access, those of the audit, and those of a check of a server (`redis.fitness`). The other keys of the log's
server are used one at a time. The queue is a single node.

In a cluster, what is unfinished is noted in the slot of the generation: so the note shares the fate of the state, also
where its primary fails over with older data, and where the slot moves. `{slot}` is a tag in that slot,
or in the lowest slot of a primary, for what concerns the primary.
"""

import hashlib
from functools import lru_cache
from zlib import crc32

ACCESS = "tailrace:{access}"
ACCESS_CHANGED = "tailrace:{access}:changed"
ACCESS_USED = "tailrace:{access}:used"
AUDIT = "tailrace:{audit}"
AUDIT_ACTS = "tailrace:{audit}:acts"
AUDIT_ADDED = "tailrace:{audit}:added"
CALLERS = "tailrace:callers"
CALLERS_CHANGED = "tailrace:callers:changed"
CIRCUITS = "tailrace:circuits"
FRONTENDS_ASKED = "tailrace:frontends:asked"
GENERATIONS = "tailrace:generations"
PARKED = "tailrace:parked"
QUEUE = "tailrace:queue"
READERS = "tailrace:readers"
TAGS = "tailrace:tags"
WAITING = "tailrace:waiting"
WAKE = "tailrace:wake"
WEBHOOKS_PENDING = "tailrace:{webhooks}:pending"
WEBHOOKS_SWEPT = "tailrace:{webhooks}:swept"
WORKERS = "tailrace:workers"
UPSTREAM_CALLS = "tailrace:upstream_calls"
UNFINISHED_SETS = 16


def state(generation_id: str) -> str:
    return f"tailrace:{{{generation_id}}}:state"


def log(generation_id: str) -> str:
    return f"tailrace:{{{generation_id}}}:log"


def tombstone(generation_id: str) -> str:
    return f"tailrace:{{{generation_id}}}:tombstone"


def events(generation_id: str) -> str:
    return f"tailrace:{{{generation_id}}}:events"


def shares(generation_id: str) -> str:
    return f"tailrace:{{{generation_id}}}:shares"


def shares_of(owner: str) -> str:
    return f"tailrace:shares:{owner}"


@lru_cache(maxsize=4096)
def of_generation(generation_id: str) -> tuple[str, ...]:
    """KEYS of every script, in this order."""
    return state(generation_id), log(generation_id), tombstone(generation_id), events(generation_id)


def check(tag: str, token: str, name: str) -> str:
    return f"tailrace:{{{tag}}}:{token}:{name}"


def check_of_job(tag: str, token: str, name: str) -> str:
    return f"arq:job:{{{tag}}}:{token}:{name}"


def worker(worker: str) -> str:
    return f"tailrace:worker:{worker}"


def worker_status(worker: str) -> str:
    return f"tailrace:worker_status:{worker}"


def models(worker: str) -> str:
    return f"tailrace:models:{worker}"


def models_failure(worker: str) -> str:
    return f"tailrace:models_failure:{worker}"


def circuit(upstream: str) -> str:
    return f"tailrace:upstream:{upstream}:circuit"


def failures(upstream: str) -> str:
    return f"tailrace:upstream:{upstream}:failures"


def slots(upstream: str) -> str:
    return f"tailrace:upstream:{upstream}:slots"


def upstream_news(upstream: str) -> str:
    return f"tailrace:upstream:{upstream}:news"


def upstream_report(worker: str) -> str:
    return f"tailrace:upstream_report:{worker}"


def unfinished(generation_id: str) -> str:
    return f"tailrace:unfinished:{crc32(generation_id.encode()) % UNFINISHED_SETS}"


def all_unfinished() -> list[str]:
    return [f"tailrace:unfinished:{shard}" for shard in range(UNFINISHED_SETS)]


def unfinished_in(slot_tag: str) -> str:
    return f"tailrace:{{{slot_tag}}}:unfinished"


def swept(shard: int | str) -> str:
    """Of a shard by its number; in a cluster, by the tag of its lowest slot."""
    return f"tailrace:swept:{shard}" if isinstance(shard, int) else f"tailrace:{{{shard}}}:swept"


def suspected(shard: int | str) -> str:
    """As `swept`."""
    return f"tailrace:suspected:{shard}" if isinstance(shard, int) else f"tailrace:{{{shard}}}:suspected"


def restoring(primary_tag: str) -> str:
    """Of a primary by the tag of its lowest slot; "" where there is no other."""
    return f"tailrace:{{{primary_tag}}}:restoring" if primary_tag else "tailrace:restoring"


def webhook_endpoints(owner: str) -> str:
    return f"tailrace:{{webhooks}}:endpoints:{owner}"


def webhook_creation(owner: str, key: str) -> str:
    return f"tailrace:{{webhooks}}:creation:{owner}:{_digest(key)}"


def webhooks_due(endpoint_id: str) -> str:
    return f"tailrace:{{webhooks}}:due:{endpoint_id}"


def webhook_bodies(endpoint_id: str) -> str:
    return f"tailrace:{{webhooks}}:bodies:{endpoint_id}"


def webhook_tries(endpoint_id: str) -> str:
    return f"tailrace:{{webhooks}}:tries:{endpoint_id}"


def webhook_known(webhook_id: str) -> str:
    return f"tailrace:{{webhooks}}:known:{webhook_id}"


def owned(owner: str) -> str:
    return f"tailrace:owner:{owner}:generations"


def unfinished_of(owner: str) -> str:
    return f"tailrace:owner:{owner}:unfinished"


def stored(owner: str) -> str:
    return f"tailrace:owner:{owner}:stored"


def stored_until(owner: str) -> str:
    return f"tailrace:owner:{owner}:stored_until"


def line(owner: str) -> str:
    return f"tailrace:owner:{owner}:line"


def turns(owner: str) -> str:
    return f"tailrace:owner:{owner}:turns"


def running(owner: str) -> str:
    return f"tailrace:owner:{owner}:running"


def parked(owner: str) -> str:
    return f"tailrace:owner:{owner}:parked"


def owed(owner: str) -> str:
    return f"tailrace:owner:{owner}:owed"


def use(owner: str) -> str:
    return f"tailrace:owner:{owner}:use"


def reserved(owner: str) -> str:
    return f"tailrace:owner:{owner}:reserved"


def reserved_until(owner: str) -> str:
    return f"tailrace:owner:{owner}:reserved_until"


def settled(owner: str) -> str:
    return f"tailrace:owner:{owner}:settled"


def outputs(owner: str) -> str:
    return f"tailrace:owner:{owner}:outputs"


def frontends_answers(token: str) -> str:
    return f"tailrace:frontends:answers:{token}"


def idempotency(owner: str, key: str) -> str:
    return f"tailrace:idempotency:{owner}:{_digest(key)}"


def chat(owner: str, chat_id: str) -> str:
    return f"tailrace:owner:{owner}:chat:{_digest(chat_id)}"


def stats(width_s: int, slot: int) -> str:
    return f"tailrace:{{stats}}:{width_s}:{slot}"


def stats_durations(width_s: int, slot: int) -> str:
    return f"{stats(width_s, slot)}:durations"


def stats_flushed(process: str) -> str:
    return f"tailrace:{{stats}}:process:{process}:flushed"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
