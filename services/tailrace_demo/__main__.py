"""`python -m tailrace_demo --port 8089`. The first line of its output is the address on which it listens."""

import argparse
import asyncio

from uvicorn.loops.auto import auto_loop_factory

from tailrace_demo.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="tailrace_demo", description="An OpenAI-compatible demo model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=8089, help="port to listen on; 0 picks a free one (default: %(default)s)"
    )
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serve(options.host, options.port, on_listening=announce))


def announce(base_url: str) -> None:
    print(f"listening on {base_url}", flush=True)


if __name__ == "__main__":
    main()
