"""The upstream side of a worker: requests out, payloads in, events of the log's vocabulary out.

    attempt ──▶ dialects ──▶ chat/ …          one folder for each dialect, one row in `DIALECTS`
                    └──────▶ client ──▶ sse   connections, shared by all dialects

`dialect` holds the two interfaces, `fields` and `errors` what every dialect needs, `conditions` the table of errors. A
further dialect is one folder and one row: no module outside this package depends on a dialect.
"""
