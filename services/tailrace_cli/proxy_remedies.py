"""What to change where `tailrace doctor` finds something: for each check, by proxy.

The configurations of services/deploy have all of it. docs/operations.md has the table of timeouts.
"""

from collections.abc import Mapping

Remedies = Mapping[str, str]

NGINX, HAPROXY, CADDY, ALB, CLOUDFLARE = "nginx", "HAProxy", "Caddy", "AWS ALB", "Cloudflare"

REMEDIES: Mapping[str, Remedies] = {
    "unbuffered": {
        NGINX: "proxy_buffering off; and no proxy_ignore_headers X-Accel-Buffering, no proxy_cache for /v1",
        HAPROXY: "no `http-response wait-for-body`, no `filter cache` for /v1",
        CADDY: "no `response_buffers` and no `buffer_responses` in reverse_proxy",
        ALB: "it does not buffer; CloudFront, API Gateway or a Lambda before or behind it may",
        CLOUDFLARE: "it does not buffer text/event-stream; a Worker has to pass the body on as a stream",
    },
    "silence": {
        NGINX: "proxy_read_timeout 75s;",
        HAPROXY: "timeout server 75s, timeout client 75s",
        CADDY: "no `read_timeout` in transport http, or 75s; no `timeouts` in the global servers block",
        ALB: "attribute idle_timeout.timeout_seconds = 75 (60 by default)",
        CLOUDFLARE: "100 s without a byte are fixed, except for Enterprise; lower TAILRACE_KEEPALIVE_S instead",
    },
    "length": {
        NGINX: "no setting of nginx: what is before or behind it?",
        HAPROXY: "no setting of HAProxy for requests: what is before or behind it?",
        CADDY: "no `write` in `timeouts` of the global servers block",
        ALB: "no setting of it; Google's balancer has timeoutSec of a backend service, Envoy a route's timeout",
        CLOUDFLARE: "no limit of the proxy; a Worker has limits of its own",
    },
    "last_event_id": {
        NGINX: "no proxy_set_header Last-Event-ID; and no proxy_pass_request_headers off",
        HAPROXY: "no `http-request del-header Last-Event-ID`",
        CADDY: "no `header_up -Last-Event-ID`",
        ALB: "it passes the header; CloudFront needs it in the origin request policy",
        CLOUDFLARE: "no Transform Rule or Worker that removes it",
    },
    "idempotency_key": {
        NGINX: "no proxy_set_header Idempotency-Key; and no proxy_pass_request_headers off",
        HAPROXY: "no `http-request del-header Idempotency-Key`",
        CADDY: "no `header_up -Idempotency-Key`",
        ALB: "it passes the header; CloudFront needs it in the origin request policy",
        CLOUDFLARE: "no Transform Rule or Worker that removes it",
    },
    "authorization": {
        NGINX: "no proxy_set_header Authorization; auth_basic takes the same header: use another way for people",
        HAPROXY: "no `http-request del-header Authorization`",
        CADDY: "no `header_up -Authorization`; basicauth takes the same header",
        ALB: "it passes the header; CloudFront needs it in the origin request policy",
        CLOUDFLARE: "no Transform Rule or Worker that removes it",
    },
    "uncompressed": {
        NGINX: "gzip off; or no text/event-stream and no * in gzip_types",
        HAPROXY: "no text/event-stream in `compression type`",
        CADDY: "no text/event-stream in `match` of `encode`",
        ALB: "it does not compress; CloudFront may",
        CLOUDFLARE: "a Compression Rule for text/event-stream: none; it also keeps to Cache-Control: no-transform",
    },
    "files": {
        NGINX: "gunzip off; no sub_filter",
        HAPROXY: "no filter that changes bodies",
        CADDY: "no replacement of response bodies",
        ALB: "it changes no body",
        CLOUDFLARE: "no minification, Rocket Loader or rewriting for /tailrace.js",
    },
    "http2": {
        NGINX: "listen 443 ssl http2; (from 1.25.1 on: http2 on;)",
        HAPROXY: "bind :443 ssl crt … alpn h2,http/1.1",
        CADDY: "h2 among `protocols` of the global servers block, as by default",
        ALB: "a listener for HTTPS, and routing.http2.enabled = true, as by default",
        CLOUDFLARE: "Speed, Protocol Optimization: HTTP/2 on, as by default",
    },
    "http_version": {
        NGINX: 'proxy_http_version 1.1; proxy_set_header Connection "";',
        HAPROXY: "it speaks HTTP/1.1, unless its client speaks HTTP/1.0: what is before it?",
        CADDY: "`versions 1.1` in transport http, as by default",
        ALB: "protocol version HTTP1 of the target group",
        CLOUDFLARE: "it speaks HTTP/1.1 to an origin: what is behind it?",
    },
    "clock": dict.fromkeys((NGINX, HAPROXY, CADDY, ALB, CLOUDFLARE), "NTP on the host of the frontend, or on this one"),
}
