"""The wall around Redis: connections, pipelined commands, sharded pub/sub. Only this package imports redis-py's
client."""

from tailrace.redis.deferred_jwt import import_redis

import_redis()
