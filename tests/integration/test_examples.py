"""The programs in `examples/` against running processes. LangChain and LiteLLM need what `scripts/clients` installs."""

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import indent

import pytest
import pytest_asyncio

from clients.cases import Json
from clients.upstream import CaseUpstream
from support import npm
from support.readme import changed_program
from support.stack import Stack, stack
from tailrace.ids import new_token
from tailrace_cli.children import die_with_parent

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CLIENTS_PYTHON = ROOT / ".venv-clients" / "bin" / "python"
requires_clients = pytest.mark.skipif(
    not CLIENTS_PYTHON.exists(), reason="scripts/clients has not installed LangChain and LiteLLM: they are not tested"
)
TOKENS = 120
TEXT = "".join(f"t{number} " for number in range(TOKENS))
SLOW: list[Json] = [
    {"tokens": {"count": TOKENS, "rate": 30}},
    {"delta": {}, "finish_reason": "stop"},
    {"done": True},
]
"""It takes 4 s, of which a program is alive for the first tenth."""
QUICK: Json = {"tokens": {"count": 20, "rate": 200}}
CUT: Json = {"delta": {}, "finish_reason": "length"}
FAILURE: Json = {"raw": 'data: {"error":{"message":"Overloaded.","code":"overloaded"}}\n\n'}
SCRIPTS = {"slow": SLOW, "slow-cut": [SLOW[0], CUT, SLOW[2]], "cut": [QUICK, CUT, SLOW[2]], "failing": [QUICK, FAILURE]}

requires_curl = pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is not installed: its example is not tested"
)
EXAMPLES_WITH_AN_END = [
    pytest.param((sys.executable, "openai-python/survive.py"), id="openai-python"),
    pytest.param(("node", "openai-node/background.mjs"), id="openai-node", marks=npm.requires_npm),
    pytest.param((CLIENTS_PYTHON, "langchain/answer.py"), id="langchain", marks=requires_clients),
    pytest.param((CLIENTS_PYTHON, "litellm/answer.py"), id="litellm", marks=requires_clients),
]

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]


class Product:
    """The processes, and an upstream that answers each example slowly enough to be interrupted."""

    def __init__(self, running: Stack, upstream: CaseUpstream, folder: Path) -> None:
        self.running = running
        self.upstream = upstream
        self.folder = folder
        self.select("slow")

    def select(self, script: str) -> None:
        """Have the upstream answer by this script."""
        self.model = f"{script}.{new_token()}"

    @property
    def calls(self) -> int:
        """How often the upstream was called for this example."""
        return self.upstream.calls[self.model].started

    @asynccontextmanager
    async def program(self, *command: str | Path) -> AsyncIterator[Process]:
        """A program of an example, in a folder of its own."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "OPENAI_BASE_URL": f"{self.running.url}/v1",
            "MODEL": self.model,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise its import downloads a list of prices
        }
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE, preexec_fn=die_with_parent
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def crash_frontend(self) -> None:
        """Kill the frontend, and wait until another one has its place."""
        frontend = self.running.frontends[0]
        await frontend.stop(signal.SIGKILL)
        await frontend.start()
        await frontend.ready()

    async def printed(self, *command: str | Path) -> str:
        """All that a program prints, at its regular end."""
        status, output, problems = await self.ended(*command)
        assert status == 0, problems
        return output

    async def ended(self, *command: str | Path) -> tuple[int | None, str, str]:
        """The exit status of a program, its output and its error output."""
        async with self.program(*command) as process:
            output, problems = await process.communicate()
            return process.returncode, output.decode(), problems.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[tuple[Stack, CaseUpstream]]:
    upstream = CaseUpstream(SCRIPTS)
    async with stack(app=upstream, lease_s="1", drain_s="0.2") as running:
        yield running, upstream


@pytest.fixture
def product(running: tuple[Stack, CaseUpstream], tmp_path: Path) -> Product:
    return Product(*running, tmp_path)


async def read_until(process: Process, text: str) -> str:
    """What a program prints up to this text."""
    assert process.stdout is not None
    return (await process.stdout.readuntil(text.encode())).decode()


async def test_openai_python_example_survives_being_killed(product: Product) -> None:
    command = (sys.executable, EXAMPLES / "openai-python" / "survive.py")
    async with product.program(*command) as process:
        await read_until(process, "t5 ")
        process.kill()
    cursor = json.loads((product.folder / "answer.json").read_text())
    assert cursor["text"]
    assert TEXT.startswith(cursor["text"])
    assert await product.printed(*command) == f"{TEXT}\n"
    assert product.calls == 1
    assert list(product.folder.glob("*.json")) == []


PYTHON_LOSES_ITS_STREAM = """\
try:
{}
except Exception:
    input()
"""
PYTHON_PRINTS_THE_REST = """
print(end="|")
for event in rest:
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
"""
NODE_LOSES_ITS_STREAM = """
} catch {
  await new Promise((resolve) => process.stdin.once("data", resolve));
  process.stdin.destroy();
}
"""
NODE_PRINTS_THE_REST = """
process.stdout.write("|");
for await (const event of rest) if (event.type === "response.output_text.delta") process.stdout.write(event.delta);
"""


async def parts_around_a_crash(product: Product, *command: str | Path) -> list[str]:
    """What a program prints of one stream, whose frontend is killed, and of the next one.

    It reads a line between them, and prints `|`.
    """
    async with product.program(*command) as process:
        printed = await read_until(process, "t10 ")
        await product.crash_frontend()
        rest, problems = await process.communicate(b"\n")
        assert process.returncode == 0, problems.decode()
    return (printed + rest.decode()).split("|")


async def test_python_lines_of_the_readme_resume_after_a_crash(product: Product) -> None:
    before, after = changed_program("from openai import OpenAI", product.running.url, product.model)
    program = PYTHON_LOSES_ITS_STREAM.format(indent(before, "    ")) + after + PYTHON_PRINTS_THE_REST
    (product.folder / "readme.py").write_text(program)
    first, rest = await parts_around_a_crash(product, sys.executable, "readme.py")
    assert rest
    assert first + rest == TEXT
    assert product.calls == 1


@npm.requires_npm
@pytest.mark.timeout(120)
async def test_node_lines_of_the_readme_resume_after_a_crash(product: Product) -> None:
    packages = npm.install(EXAMPLES / "openai-node") / "node_modules"
    (product.folder / "node_modules").symlink_to(packages)
    before, after = changed_program('import OpenAI from "openai";', product.running.url, product.model)
    setup, loop, block = before.partition("for await")
    program = f"{setup}try {{ {loop}{block}{NODE_LOSES_ITS_STREAM}{after}{NODE_PRINTS_THE_REST}"
    (product.folder / "readme.mjs").write_text(program)
    first, rest = await parts_around_a_crash(product, "node", "readme.mjs")
    assert rest
    assert first + rest == TEXT
    assert product.calls == 1


@requires_curl
async def test_curl_example_has_every_event_once(product: Product) -> None:
    output = await product.printed(EXAMPLES / "curl" / "resume.sh")
    events = [json.loads(line.removeprefix("data: ")) for line in output.splitlines() if line.startswith("data: {")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == TEXT
    assert output.rstrip().endswith("data: [DONE]")
    assert product.calls == 1


@requires_curl
@pytest.mark.parametrize("question", ['Say "hi"', r'C:\new "x\"', "two\nlines\tand 100 % & ä"])
async def test_curl_example_sends_any_question(product: Product, question: str) -> None:
    product.select("failing")
    await product.printed(EXAMPLES / "curl" / "resume.sh", question)
    request = product.upstream.calls[product.model].last_request
    assert request is not None
    assert request["messages"] == [{"role": "user", "content": question}]


@requires_curl
async def test_curl_example_stops_with_a_message_where_there_is_no_answer(product: Product) -> None:
    command = EXAMPLES / "curl" / "resume.sh"
    control = "resume.sh: a question and a model have no control characters\n"
    assert await product.ended(command, "a\x01b") == (1, "", control)
    product.model = "m" * 10_000
    status, output, problems = await product.ended(command)
    assert (status, problems) == (1, f"resume.sh: no answer from {product.running.url}/v1\n")
    assert '"error":' in output
    assert product.calls == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("script", "message"), [("cut", "The answer is not complete"), ("failing", "Overloaded.")])
@pytest.mark.parametrize("example", EXAMPLES_WITH_AN_END)
async def test_example_exits_with_an_error_where_the_answer_is_not_whole(
    product: Product, example: tuple[str | Path, str], script: str, message: str
) -> None:
    runtime, program = example
    if runtime == "node":
        npm.install(EXAMPLES / "openai-node")
    product.select(script)
    status, output, problems = await product.ended(runtime, EXAMPLES / program, "What survives?")
    assert output.startswith("t0 t1 ")
    assert message in problems
    assert status == 1


@requires_clients
async def test_langchain_example_fails_where_a_lost_answer_was_cut(product: Product) -> None:
    product.select("slow-cut")
    async with product.program(CLIENTS_PYTHON, EXAMPLES / "langchain" / "answer.py") as process:
        printed = await read_until(process, "t10 ")
        await product.crash_frontend()
        rest, problems = await process.communicate()
    assert printed + rest.decode() == TEXT
    assert b"The answer is not complete: its status is incomplete." in problems
    assert process.returncode == 1


@requires_clients
@pytest.mark.parametrize("example", ["langchain", "litellm"])
async def test_example_of_a_package_survives_a_killed_frontend(product: Product, example: str) -> None:
    async with product.program(CLIENTS_PYTHON, EXAMPLES / example / "answer.py") as process:
        printed = await read_until(process, "t10 ")
        await product.crash_frontend()
        rest, problems = await process.communicate()
        assert process.returncode == 0, problems.decode()
    assert printed + rest.decode() == f"{TEXT}\n"
    assert product.calls == 1


@requires_clients
async def test_litellm_example_survives_a_killed_worker(product: Product) -> None:
    async with product.program(CLIENTS_PYTHON, EXAMPLES / "litellm" / "answer.py") as process:
        printed = await read_until(process, "t10 ")
        (worker,) = product.running.workers
        await worker.stop(signal.SIGKILL)
        await worker.start()
        rest, problems = await process.communicate()
        assert process.returncode == 0, problems.decode()
    assert printed + rest.decode() == f"{TEXT}\n"
    assert product.calls == 2


async def test_every_example_has_a_page_that_names_its_program() -> None:
    for folder in EXAMPLES.iterdir():
        programs = {path.name for path in folder.iterdir() if path.suffix in (".py", ".sh", ".mjs")}
        page = (folder / "README.md").read_text()
        assert {name for name in programs if name not in page} == set(), folder.name
