"""What a user does on the page: models, examples, copy, retry, edit, Recent, links, keys, the keyboard."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, Request, Route, expect

from support.chat_page import (
    END,
    finished_answer,
    generate,
    generate_held,
    generate_text,
    generate_tokens,
    get,
    speed_up,
    wait_for_state,
    wait_for_tokens,
)
from support.stack import Stack, stack

OpenPage = Callable[..., Awaitable[Page]]
Json = dict[str, Any]

CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}
CALLS: list[Json] = [
    {"delta": {"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                               "function": {"name": "get_weather", "arguments": '{"city": "Lisbon"}'}}]}},
    {"delta": {}, "finish_reason": "tool_calls"},
    {"done": True},
]  # fmt: skip

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


def recorded_bodies(page: Page) -> list[Json]:
    """The bodies of the page's POSTs, as they are sent."""
    bodies: list[Json] = []

    def record(request: Request) -> None:
        if request.method == "POST" and request.url.endswith("/v1/generations"):
            bodies.append(request.post_data_json or {})

    page.on("request", record)
    return bodies


async def ask(page: Page, text: str) -> None:
    await page.get_by_label("Your message").fill(text)
    await page.keyboard.press("Enter")


async def copied(page: Page) -> str:
    text: str = await page.evaluate("navigator.clipboard.readText()")
    return text


# ── models and examples ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_first_model_of_the_server_is_the_default(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/", models=["llama3.2", "qwen3:8b"])
    await expect(page.get_by_label("Model")).to_have_value("llama3.2")
    bodies = recorded_bodies(page)
    await ask(page, "Hello")
    await expect(page.locator(".message")).to_have_count(2)
    assert bodies[0]["model"] == "llama3.2"


async def test_model_used_last_is_kept_while_the_server_has_it(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    await page.evaluate("localStorage.setItem('tailrace.model', 'demo-tools')")
    await page.reload()
    await expect(page.get_by_label("Model")).to_have_value("demo-tools")
    await page.evaluate("localStorage.setItem('tailrace.model', 'removed-since')")
    await page.reload()
    await expect(page.get_by_label("Model")).to_have_value("demo")


async def test_model_that_is_not_in_the_list_can_be_typed(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    await page.get_by_label("Model").select_option("Another…")
    await expect(page.get_by_label("Model")).to_be_focused()
    await page.keyboard.type("mistral")
    bodies = recorded_bodies(page)
    await ask(page, "Hello")
    await expect(page.locator(".message")).to_have_count(2)
    assert bodies[0]["model"] == "mistral"


async def test_a_question_sent_before_the_models_are_known_waits_for_them(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    listed = asyncio.Event()

    async def hold(route: Route) -> None:
        await listed.wait()
        await route.fallback()

    await page.route("**/v1/models", hold)
    await page.reload()
    await ask(page, "Hello")
    await expect(page.get_by_label("Your message")).to_have_value("Hello")
    await expect(page.locator("#hint")).to_have_text("")
    listed.set()
    await expect(page.locator(".message")).to_have_count(2)


async def test_unknown_list_of_models_leaves_a_field_and_asks_for_a_name(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/", models=[])
    await ask(page, "Hello")
    await expect(page.locator("#hint")).to_have_text("Choose a model first.")
    await expect(page.get_by_label("Model")).to_be_focused()
    await expect(page.get_by_label("Your message")).to_have_value("Hello")


async def test_examples_promise_no_model_that_is_not_there(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/", models=["llama3.2"])
    await expect(page.locator("#examples button b")).to_have_text(["Count to 300", "A table and some code"])
    page = await open_page(product.url + "/", models=["demo", "demo-long"])
    await expect(page.locator("#examples button b")).to_have_text(
        [
            "A long answer, numbered",
            "A model that stalls",
            "A connection that breaks",
            "A model that is busy",
            "A model that fails",
        ]
    )


@pytest.mark.parametrize(
    ("label", "state"),
    [
        ("A long answer, numbered", "streaming"),
        ("Think first", "done"),
        ("Call two tools", "done"),
        ("A model that stalls", "streaming"),
        ("A connection that breaks", "done"),
        ("A model that is busy", "done"),
        ("A model that fails", "incomplete|failed|restarted"),
    ],
)
async def test_example_does_what_its_label_promises(
    product: Stack, open_page: OpenPage, label: str, state: str
) -> None:
    page = await open_page(product.url + "/")
    if state == "done":
        await speed_up(page)
    await page.locator("#examples button", has_text=label).click()
    await expect(page.locator("#status")).to_have_attribute("data-state", re.compile(f"^({state})$"), timeout=30_000)
    await expect(page.get_by_label("Your message")).to_be_focused()
    if label == "Call two tools":
        await expect(page.locator(".call b")).to_have_text(["get_weather", "get_local_time"])
    if label == "Think first":
        await expect(page.locator(".reasoning summary")).to_have_text("Reasoning")
    if state == "streaming":
        await page.keyboard.press("Escape")
        await wait_for_state(page, "stopped")


@pytest.mark.parametrize("label", ["A model that stalls", "A connection that breaks"])
async def test_example_of_a_fault_is_answered_by_the_second_attempt(open_page: OpenPage, label: str) -> None:
    async with stack(upstream_idle_timeout_s="1") as product:
        page = await open_page(product.url + "/")
        await speed_up(page)
        await page.locator("#examples button", has_text=label).click()
        answer = await finished_answer(page)
        assert answer.startswith("This is Tailrace's built-in demo model")
        assert answer.count("built-in demo model") == 1
        generation_id = page.url.partition("?id=")[2]
        assert (await get(f"{product.url}/v1/generations/{generation_id}?output=false"))["attempt"] == 2


# ── actions on messages ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_answer_is_copied_as_its_source(product: Stack, open_page: OpenPage) -> None:
    page = await open_page((await generate_text(product, "Some **bold** text.")).url, **CLIPBOARD)
    await finished_answer(page)
    answer = page.get_by_role("article", name="Answer")
    await answer.get_by_role("button", name="Copy", exact=True).click()
    assert await copied(page) == "Some **bold** text."
    await expect(answer.get_by_role("button", name="Copied")).to_be_visible()
    await answer.get_by_role("button", name="Copy link").click()
    assert await copied(page) == page.url


async def test_curl_command_continues_the_log_at_the_word_of_the_page(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_held(product, 200, rate=1000)
    page = await open_page(generation.url, **CLIPBOARD)
    await wait_for_tokens(page, 99)
    await page.get_by_role("button", name="As curl").click()
    command = await copied(page)
    process = await asyncio.create_subprocess_shell(
        command.replace("curl -N", "curl -sN"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    await generation.release()
    output, _ = await process.communicate()
    await finished_answer(page)
    first = re.search(rb'"text":" ?(t\d+)', output)
    assert first
    assert first[1] == b"t100"
    assert b"event: done" in output


async def test_failed_answer_is_asked_again_with_the_same_fields(product: Stack, open_page: OpenPage) -> None:
    script: list[Json] = [{"statuses": [400]}, {"delta": {"content": "At last."}}, *END]
    generation = await generate(product, script, script_id="retry")
    page = await open_page(generation.url)
    await wait_for_state(page, "failed")
    bodies = recorded_bodies(page)
    await page.get_by_role("button", name="Retry").click()
    assert await finished_answer(page) == "At last."
    await expect(page.locator(".message")).to_have_count(2)
    assert generation.id not in page.url
    assert bodies[0]["script"] == script
    assert [message["role"] for message in bodies[0]["messages"]] == ["user"]


async def test_question_without_an_answer_is_left_out_of_the_next_request(product: Stack, open_page: OpenPage) -> None:
    page = await open_page((await generate(product, [{"statuses": [400, 400, 400]}])).url)
    await wait_for_state(page, "failed")
    await speed_up(page)
    await page.get_by_label("Model").select_option("demo")
    bodies = recorded_bodies(page)
    await ask(page, "Another question")
    await finished_answer(page)
    assert [message["content"] for message in bodies[0]["messages"]] == ["Another question"]
    await expect(page.locator(".message")).to_have_count(2)


async def test_edited_question_replaces_what_followed_it(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    await speed_up(page)
    for question in ("First question", "Second question"):
        await ask(page, question)
        await finished_answer(page)
        await expect(page.get_by_role("button", name="Retry")).to_be_visible()
    await expect(page.locator(".message")).to_have_count(4)
    await page.get_by_role("article", name="You").first.get_by_role("button", name="Edit").click()
    await expect(page.get_by_label("Your message")).to_have_value("First question")
    await page.keyboard.press("Escape")
    await expect(page.locator("#editing")).to_be_hidden()
    await expect(page.get_by_label("Your message")).to_have_value("")
    await page.get_by_role("article", name="You").first.get_by_role("button", name="Edit").click()
    await ask(page, "Changed question")
    await finished_answer(page)
    await expect(page.get_by_role("article", name="You").locator(".text")).to_have_text(["Changed question"])
    await expect(page.locator(".message")).to_have_count(2)


async def test_draft_is_back_after_the_edit_of_a_question(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    await speed_up(page)
    await ask(page, "First question")
    await finished_answer(page)
    field = page.get_by_label("Your message")
    await field.fill("A draft")
    await page.get_by_role("article", name="You").get_by_role("button", name="Edit").click()
    await expect(field).to_have_value("First question")
    await page.keyboard.press("Escape")
    await expect(field).to_have_value("A draft")
    await page.get_by_role("article", name="You").get_by_role("button", name="Edit").click()
    await ask(page, "Changed question")
    await finished_answer(page)
    await expect(field).to_have_value("A draft")
    await expect(page.get_by_role("article", name="You").locator(".text")).to_have_text(["Changed question"])
    await page.get_by_role("button", name="Send").click()
    await expect(field).to_have_value("")


async def test_tool_calls_stay_in_the_conversation_over_a_reload(product: Stack, open_page: OpenPage) -> None:
    page = await open_page((await generate(product, CALLS)).url)
    await finished_answer(page)
    await speed_up(page)
    await page.get_by_label("Model").select_option("demo")
    bodies = recorded_bodies(page)
    await ask(page, "And then?")
    await finished_answer(page)
    assert [message["role"] for message in bodies[0]["messages"]] == ["user", "assistant", "tool", "user"]
    assert bodies[0]["messages"][1]["tool_calls"][0]["function"]["name"] == "get_weather"
    await expect(page.locator(".call b")).to_have_text("get_weather")
    messages = await page.locator(".message").count()
    await page.reload()
    await finished_answer(page)
    await expect(page.locator(".message")).to_have_count(messages)
    await expect(page.locator(".call pre")).to_have_text('{"city": "Lisbon"}')


async def test_long_question_is_collapsed(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    await speed_up(page)
    await ask(page, "A long line. " * 3000)
    await finished_answer(page)
    question = page.get_by_role("article", name="You")
    assert await question.evaluate("article => article.offsetHeight") < 400
    await question.get_by_role("button", name="Show more").click()
    assert await question.evaluate("article => article.offsetHeight") > 2000
    await question.get_by_role("button", name="Show less").click()
    assert await question.evaluate("article => article.offsetHeight") < 400


async def test_qr_code_of_a_loopback_address_is_not_offered(product: Stack, open_page: OpenPage) -> None:
    page = await open_page((await generate_text(product, "The log.")).url)
    await finished_answer(page)
    await page.get_by_role("button", name="On a phone").click()
    dialog = page.get_by_role("dialog", name="This answer on a phone")
    await expect(dialog).to_contain_text("which leads to this computer alone")
    await expect(dialog.get_by_role("img", name="QR code")).to_be_hidden()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()


async def test_qr_code_has_the_link(product: Stack, open_page: OpenPage) -> None:
    frontend = await product.add_frontend(api_keys="anna:anna-key-1", ticket_secret="sixteen characters")
    url = f"http://tailrace.localhost:{frontend.port}/"  # Chromium resolves it to loopback; the page cannot know
    page = await open_page(url, disturbed=True)
    await speed_up(page)
    await ask(page, "What survives?")
    await page.get_by_label("API key").fill("anna-key-1")
    await page.keyboard.press("Enter")
    await finished_answer(page)
    await page.get_by_role("button", name="On a phone").click()
    dialog = page.get_by_role("dialog", name="This answer on a phone")
    await expect(dialog.get_by_role("img", name="QR code")).to_be_visible()
    await expect(dialog).to_contain_text(page.url)


# ── Recent, links ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_answer_left_behind_is_found_in_recent_with_a_live_dot(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_tokens(product, 3000, rate=50)
    page = await open_page(generation.url)

    async def with_previews(route: Route) -> None:
        answer = await route.fetch()
        body = await answer.json()
        rows = [row | {"preview": f"Preview of {row['id']}", "tokens": 12} for row in body["data"]]
        await route.fulfill(response=answer, json=body | {"data": rows})

    await page.route("**/v1/generations?limit=*", with_previews)
    await wait_for_tokens(page, 20)
    await page.get_by_role("link", name="New chat").click()
    await expect(page.get_by_role("button", name="Recent answers, 1 more being written")).to_be_visible()
    await page.get_by_role("button", name="Recent").click()
    row = page.locator("#rows a", has_text=generation.id)
    await expect(row).to_have_attribute("data-status", "running")
    await expect(row).to_contain_text("scripted · running · 12 tokens · now")
    await row.click()
    await expect(page.locator("#drawer")).to_be_hidden()
    await wait_for_state(page, "streaming")
    assert page.url == generation.url
    await page.keyboard.press("Escape")
    await wait_for_state(page, "stopped")
    await page.get_by_role("button", name="Recent").click()
    await expect(page.locator("#rows a", has_text=generation.id)).to_have_attribute("data-status", "cancelled")
    await expect(page.locator("#rows a[aria-current=page]")).to_have_count(1)
    await page.unroute_all(behavior="wait")


async def test_finished_link_opens_at_its_beginning_and_a_reload_keeps_the_place(
    product: Stack, open_page: OpenPage
) -> None:
    paragraphs = "\n\n".join(f"Paragraph {k}. " + "Words and words. " * 20 for k in range(60))
    page = await open_page((await generate_text(product, paragraphs)).url)
    await finished_answer(page)
    assert await page.evaluate("scrollY") == 0
    await page.evaluate("scrollTo(0, 900)")
    await page.wait_for_function("() => history.state?.scrollY === 900")
    await page.reload()
    await finished_answer(page)
    await page.wait_for_function("() => scrollY === 900")


async def test_conversation_that_goes_on_in_another_tab_is_announced(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_text(product, "The log.")
    page = await open_page(generation.url)
    await finished_answer(page)
    other = await page.context.new_page()
    await other.goto(generation.url)
    await speed_up(other)
    await finished_answer(other)
    await other.get_by_label("Model").select_option("demo")
    await ask(other, "And then?")
    await other.wait_for_url(lambda url: generation.id not in url)
    await page.get_by_role("link", name="Open its next answer").click()
    assert page.url == other.url


async def test_conversation_that_goes_on_in_another_browser_is_found(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_text(product, "The log.")
    page, other = await open_page(generation.url), await open_page(generation.url)  # in a context of its own each
    await finished_answer(page)
    await speed_up(other)
    await finished_answer(other)
    await other.get_by_label("Model").select_option("demo")
    await ask(other, "And then?")
    await other.wait_for_url(lambda url: generation.id not in url)
    await expect(page.locator("#continued")).to_be_hidden()
    await page.evaluate("dispatchEvent(new Event('focus'))")  # the user is back at the first browser
    await page.get_by_role("link", name="Open its next answer").click()
    assert page.url == other.url
    await finished_answer(page)
    await page.goto(generation.url)
    await expect(page.get_by_role("link", name="Open its next answer")).to_be_visible()


async def test_deleted_answer_is_explained(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_text(product, "Gone soon.")
    page = await open_page(generation.url, disturbed=True)
    await finished_answer(page)
    async with (
        aiohttp.ClientSession() as http,
        http.delete(f"{product.url}/v1/generations/{generation.id}") as answer,
    ):
        assert answer.status == 200
    await page.reload()
    await expect(page.get_by_role("heading", name="This answer was deleted.")).to_be_visible()
    await expect(page.get_by_role("heading", name="Answers that survive.")).to_be_hidden()


async def test_answer_deleted_while_it_is_written_is_not_shown_as_stopped(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_tokens(product, 2000, rate=50)
    page = await open_page(generation.url, disturbed=True)
    await wait_for_tokens(page, 20)
    async with (
        aiohttp.ClientSession() as http,
        http.delete(f"{product.url}/v1/generations/{generation.id}") as answer,
    ):
        assert answer.status == 200
    await wait_for_state(page, "gone")
    await expect(page.locator("#status")).to_have_text("This answer was deleted.")
    assert "t10 " in await page.locator(".message[data-role=assistant] .text").inner_text()
    await expect(page.get_by_role("button", name="Copy link")).to_be_hidden()
    await expect(page.get_by_role("button", name="Retry")).to_be_visible()


async def test_expired_answer_names_the_retention(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/", disturbed=True)
    error = {"message": "This generation is no longer stored (expired).", "code": "expired"}
    await page.route("**/v1/generations/gen_*", lambda route: route.fulfill(status=410, json={"error": error}))
    await page.goto(f"{product.url}/?id=gen_{'a' * 26}")
    await expect(page.get_by_role("heading", name="This answer has expired.")).to_be_visible()
    await expect(page.locator("#gone-text")).to_have_text(
        re.compile(r"^This server keeps an answer for 1 hour after its end \(TAILRACE_RETENTION_S\)\.$")
    )


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_key_is_asked_for_at_once_refused_if_unusable_and_kept_on_request(
    product: Stack, open_page: OpenPage
) -> None:
    frontend = await product.add_frontend(api_keys="anna:anna-key-1,bob:bob-key-22", ticket_secret="sixteen characters")
    page = await open_page(frontend.url + "/", disturbed=True, models=None)
    await expect(page.get_by_label("This server requires an API key.")).to_be_focused()
    await page.get_by_label("API key").fill("“anna-key-1”")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_role("alert")).to_contain_text("ASCII")
    await page.get_by_label("API key").fill("anna-key-1")
    await page.get_by_label("Keep it on this device").check()
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator("#unlock")).to_be_hidden()
    assert await page.evaluate("[localStorage['tailrace.key'], sessionStorage['tailrace.key']]") == ["anna-key-1", None]
    await frontend.stop()


async def test_stored_key_that_no_header_can_carry_is_asked_for_again(product: Stack, open_page: OpenPage) -> None:
    frontend = await product.add_frontend(api_keys="anna:anna-key-1", ticket_secret="sixteen characters")
    page = await open_page(frontend.url + "/favicon.svg", disturbed=True, models=None)
    await page.evaluate("localStorage.setItem('tailrace.key', 'anna-key-1…')")
    await page.goto(frontend.url + "/")
    await expect(page.get_by_label("This server requires an API key.")).to_be_visible()


async def test_wrong_key_is_named_as_such(product: Stack, open_page: OpenPage) -> None:
    frontend = await product.add_frontend(api_keys="anna:anna-key-1", ticket_secret="sixteen characters")
    page = await open_page(frontend.url + "/", disturbed=True, models=None)
    await expect(page.get_by_label("API key")).to_have_attribute("aria-invalid", "false")
    await page.get_by_label("API key").fill("anna-key-2")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_role("alert")).to_have_text(re.compile("does not accept this key"))
    await expect(page.get_by_label("API key")).to_have_attribute("aria-invalid", "true")
    await frontend.stop()


async def test_link_opened_with_a_key_has_the_models(product: Stack, open_page: OpenPage) -> None:
    frontend = await product.add_frontend(api_keys="anna:anna-key-1", ticket_secret="sixteen characters")
    page = await open_page(f"{frontend.url}/?id=gen_{'a' * 26}", disturbed=True, models=None)
    await page.get_by_label("This server requires an API key.").fill("anna-key-1")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="There is no answer at this link.")).to_be_visible()
    await expect(page.locator("#model option").first).to_be_attached()
    await page.locator("#gone-new").click()
    await expect(page.locator("#examples button").first).to_be_visible()


async def test_foreign_link_offers_another_key(product: Stack, open_page: OpenPage) -> None:
    frontend = await product.add_frontend(api_keys="anna:anna-key-1,bob:bob-key-22", ticket_secret="sixteen characters")
    async with aiohttp.ClientSession() as http:
        body = {"model": "demo", "messages": [{"role": "user", "content": "?"}], "tokens_per_second": 4000}
        headers = {"Authorization": "Bearer anna-key-1"}
        async with http.post(f"{frontend.url}/v1/generations", json=body, headers=headers) as answer:
            generation_id = (await answer.json())["id"]
    page = await open_page(frontend.url + "/", disturbed=True)
    await page.evaluate("sessionStorage.setItem('tailrace.key', 'bob-key-22')")
    await page.goto(f"{frontend.url}/?id={generation_id}")
    await expect(page.get_by_role("heading", name="There is no answer at this link.")).to_be_visible()
    await page.locator("#gone-key").click()
    await page.get_by_label("API key").fill("anna-key-1")
    await page.get_by_role("button", name="Continue").click()
    await finished_answer(page)
    await expect(page.locator("#gone")).to_be_hidden()
    await frontend.stop()


# ── keyboard and motion ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_focus_stays_in_the_page_from_question_to_end(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    focused = "document.activeElement.id"
    await page.get_by_label("Your message").fill("Hello")
    await page.get_by_role("button", name="Send").focus()
    await page.keyboard.press("Enter")
    await wait_for_tokens(page, 3)
    assert await page.evaluate(focused) == "ask"
    await page.get_by_role("button", name="Stop").focus()
    await page.keyboard.press("Enter")
    await wait_for_state(page, "stopped")
    assert await page.evaluate(focused) == "send"


async def test_enter_during_an_answer_gives_a_hint_and_escape_stops_it(product: Stack, open_page: OpenPage) -> None:
    page = await open_page((await generate_tokens(product, 2000, rate=50)).url)
    await wait_for_tokens(page, 10)
    await ask(page, "Next")
    await expect(page.locator("#hint")).to_have_text("The answer is still being written. Esc stops it.")
    composing = "new KeyboardEvent('keydown', { key: 'Escape', isComposing: true, bubbles: true })"
    await page.get_by_label("Your message").evaluate(f"field => field.dispatchEvent({composing})")
    assert await page.evaluate("document.querySelector('#send').textContent") == "Stop", "closes the list of an IME"
    await expect(page.locator("#status")).to_have_attribute("data-state", "streaming")
    await page.keyboard.press("Escape")
    await wait_for_state(page, "stopped")
    await expect(page.get_by_label("Your message")).to_have_value("Next")


async def test_enter_on_a_phone_is_a_new_line(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/", viewport={"width": 390, "height": 800}, is_mobile=True, has_touch=True)
    await page.get_by_label("Your message").tap()
    await page.keyboard.type("One")
    await page.keyboard.press("Enter")
    await page.keyboard.type("Two")
    await expect(page.get_by_label("Your message")).to_have_value("One\nTwo")


async def test_reduced_motion_stops_every_animation(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_tokens(product, 1000, rate=50)
    running = "document.getAnimations().length"
    page = await open_page(generation.url)
    await wait_for_tokens(page, 10)
    assert await page.evaluate(running) > 0
    await page.emulate_media(reduced_motion="reduce")
    assert await page.evaluate(running) == 0
    await page.keyboard.press("Escape")
    await wait_for_state(page, "stopped")
    assert (await get(f"{product.url}/v1/generations/{generation.id}"))["status"] == "cancelled"
