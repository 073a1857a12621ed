"""`python -m tailrace_demo --port 8089`; its first line says where it listens."""

import argparse
import asyncio

from uvicorn.loops.auto import auto_loop_factory

from tailrace_demo.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="tailrace_demo", description="An OpenAI-compatible demo model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8089, help="0 takes a free one (default: %(default)s)")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serve(options.host, options.port, on_listening=announce))


def announce(base_url: str) -> None:
    print(f"listening on {base_url}", flush=True)


if __name__ == "__main__":
    main()
