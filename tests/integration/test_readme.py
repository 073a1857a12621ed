"""Every command of the README: run here as a reader pastes it, or by the test that is named here."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.readme import README, URL
from support.stack import Stack, stack
from tailrace_cli.arguments import parser

ROOT = README.parent
TERMINAL = "The same in a terminal"
KILL = "pkill -KILL -f 'tailrace_cli worker'"
ELSEWHERE = {
    "scripts/dev": "tests/integration/test_installation.py",
    "scripts/real-model": "scripts/try-real-model",
    "OPENAI_BASE_URL=http://127.0.0.1:8081/v1 scripts/dev": "tests/unit/tailrace_cli/test_upstreams.py",
    KILL: "tests/integration/test_readme.py",
    "export TAILRACE_API_KEYS=me:$(openssl rand -hex 16) TAILRACE_TICKET_SECRET=$(openssl rand -hex 32)": (
        "tests/unit/test_deployment.py"
    ),
    "FRONTENDS=3 WORKERS=4 docker compose up --build": "tests/unit/test_deployment.py",
}
"""Commands that cannot run here → the test of what they run."""

MARK = "====="


@pytest_asyncio.fixture
async def product() -> AsyncIterator[Stack]:
    async with stack() as running:
        await running.workers[0].wait_for_log("the upstream's models")
        yield running


def text_blocks(text: str) -> list[str]:
    """The indented blocks, as a reader copies them."""
    blocks = re.findall(
        r"(?:^    .*\n)+", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def is_drawing(block: str) -> bool:
    """Whether a block is a picture of the parts."""
    return "──" in block


def commands_of(text: str) -> list[str]:
    blocks = [block for block in text_blocks(text) if not is_drawing(block)]
    return [line for block in blocks for line in block.splitlines()]


def terminal_section() -> str:
    return README.read_text().partition(f"## {TERMINAL}\n")[2].partition("\n## ")[0]


async def run(script: str, product: Stack, folder: Path) -> str:
    """What bash prints for a block, with the address and the command of this checkout. It must succeed, but for the
    commands that are cut off."""
    command = f"{sys.executable} -m tailrace_cli"
    script = script.replace(URL, product.url).replace(".venv/bin/tailrace", command)
    process = await asyncio.create_subprocess_exec(
        "bash", "-u", cwd=folder, env=product.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(script.encode())
    assert (process.returncode, err.decode()) == (0, ""), script
    return out.decode()


def test_every_command_is_run_by_a_test() -> None:
    text = README.read_text()
    elsewhere = [line for line in commands_of(text) if line not in commands_of(terminal_section())]
    assert sorted(elsewhere) == sorted(ELSEWHERE)
    assert [path for path in ELSEWHERE.values() if not (ROOT / path).exists()] == []


def test_commands_can_be_pasted() -> None:
    """No output, no prompt, and no comment, which zsh does not know on its command line."""
    lines = commands_of(README.read_text())
    assert [line for line in lines if line.startswith(("$ ", "> ")) or " # " in line] == []
    done = subprocess.run(["bash", "-n"], input="\n".join(lines), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_in_the_prose_exist_with_their_options() -> None:
    prose = re.sub(r"^```.*?^```$", "", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    commands = [" ".join(each.split()) for each in re.findall(r"`((?:scripts/|tailrace )[^`]*)`", prose)]
    assert "scripts/dev --open" in commands
    assert "scripts/dev --demo" in commands
    for command in commands:
        name, *arguments = command.split()
        assert name == "tailrace" or (ROOT / name).exists()
        if name in ("tailrace", "scripts/dev"):
            parser().parse_args(arguments if name == "tailrace" else ["dev", *arguments])


@pytest.mark.long
async def test_commands_of_the_terminal_print_one_answer_in_every_form(product: Stack, tmp_path: Path) -> None:
    ask, *http = text_blocks(terminal_section())
    asked, tailed, listed, shown, timeline = [await run(line, product, tmp_path) for line in ask.splitlines()]
    assert asked
    assert tailed.endswith("\n\n")  # events: the pipe of a test is no terminal
    assert len(listed.splitlines()) == 2
    assert asked.strip() in shown
    assert "attempt 1 started" in timeline

    create, resume, forms = http
    mark = f"\necho '{MARK}'\n"
    printed = await run(create + mark + resume + mark + mark.join(forms.splitlines()), product, tmp_path)
    first, rest, text, ndjson, whole, cancelled = printed.split(f"{MARK}\n")
    ids = re.findall(r"^id: (\S+)$", first + rest, flags=re.MULTILINE)
    assert ids == sorted(set(ids), key=lambda each: [int(part) for part in each.split("-")])
    assert "event: done" not in first
    assert rest.count("event: done") == 1
    assert text.strip() == asked.strip()
    assert json.loads(ndjson.splitlines()[-1])["event"] == "done"
    assert json.loads(whole)["output"][0]["text"] == text
    assert json.loads(cancelled)["status"] == "completed"
    assert [each[-1] for each in (whole, cancelled)] == ["\n", "\n"]  # the prompt begins on a line of its own


async def test_pattern_of_the_kill_matches_a_worker_and_no_frontend(product: Stack) -> None:
    pattern = KILL.split("'")[1]
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=True, env=os.environ)  # noqa: ASYNC221
    assert str(product.workers[0].pid) in found.stdout.split()
    assert str(product.frontends[0].pid) not in found.stdout.split()
