"""Streams of chat chunks by name.

The streams follow real ones of the vendors, shortened: order, additional fields, and the place of usage and reasoning.
"""

from support.chat_chunks import (
    OBFUSCATION,
    USAGE,
    Json,
    call_chunk,
    choice,
    chunk,
    citation,
    end,
    fragment,
    logprob,
    role,
    text_chunk,
    text_chunks,
    tokens,
)


def _openai() -> dict[str, list[Json]]:
    top: Json = {"service_tier": "default", "system_fingerprint": "fp_1", "usage": None}
    padded: Json = {**top, "obfuscation": OBFUSCATION}
    usage_chunk = chunk(**{**top, "usage": USAGE})
    return {
        "openai_text": [
            role(**padded), *text_chunks("It rains in Bergen today.", **padded), end(**padded), usage_chunk,
        ],
        "openai_text_without_usage": [role(), *text_chunks("Yes, and no."), end()],
        "openai_length": [role(**top), *text_chunks("Once upon a", **top), end("length", **top), usage_chunk],
        "openai_content_filter": [role(), *text_chunks("I will now"), end("content_filter")],
        "openai_refusal": [
            chunk(choice({"role": "assistant", "content": None, "refusal": None}), **top),
            *(chunk(choice({"refusal": word}), **top) for word in tokens("I'm sorry, I can't.")),
            end(**top),
            usage_chunk,
        ],
        "openai_call": [
            chunk(choice({"role": "assistant", "content": None, "tool_calls": [fragment(0, "call_a", "look", "")]})),
            *(call_chunk(fragment(0, arguments=piece)) for piece in ('{"q"', ':"fj', 'ords"}')),
            end("tool_calls", usage=USAGE),
        ],
        "openai_text_then_call": [
            role(),
            *text_chunks("Let me look."),
            call_chunk(fragment(0, "call_a", "look", "")),
            call_chunk(fragment(0, arguments='{"q":1}')),
            end("tool_calls"),
        ],
        "openai_parallel_calls": [
            chunk(choice({"role": "assistant", "content": None})),
            call_chunk(fragment(0, "call_a", "look", "")),
            call_chunk(fragment(0, arguments='{"q":')),
            call_chunk(fragment(0, arguments="1}")),
            call_chunk(fragment(1, "call_b", "open", "")),
            call_chunk(fragment(1, arguments='{"u":"/"}')),
            end("tool_calls"),
        ],
        "openai_interleaved_calls": [
            call_chunk(fragment(0, "call_a", "look", ""), fragment(1, "call_b", "look", "")),
            call_chunk(fragment(0, arguments='{"q":')),
            call_chunk(fragment(1, arguments='{"q":'), fragment(0, arguments="1")),
            call_chunk(fragment(0, arguments="}")),
            call_chunk(fragment(1, arguments="2}")),
            end("tool_calls"),
        ],
        "openai_three_choices": [
            *(role(index=index, **top) for index in range(3)),
            *(text_chunk(word, index, **top) for word in tokens("well it is") for index in (0, 1, 2)),
            *(end(finish, index, **top) for index, finish in enumerate(("stop", "length", "stop"))),
            usage_chunk,
        ],
        "openai_logprobs": [
            chunk(choice({"role": "assistant", "content": ""}, logprobs={"content": [], "refusal": None})),
            *(chunk(choice({"content": word}, logprobs={"content": [logprob(word)], "refusal": None}))
              for word in tokens("It is so")),
            chunk(choice({"content": ""}, logprobs={"content": [logprob("\ufffd")], "refusal": None})),
            chunk(choice({}, "stop", logprobs=None)),
        ],
        "openai_refusal_logprobs": [
            *(chunk(choice({"refusal": word}, logprobs={"content": None, "refusal": [logprob(word)]}))
              for word in tokens("No, never.")),
            end(),
        ],
        "openai_search": [
            role(),
            *text_chunks("See the pages"),
            chunk(choice({"content": " here."})),
            chunk(choice({"annotations": [citation(1), citation(2)]})),
            chunk(choice({"content": "", "annotations": [citation(3)]})),
            end(),
        ],
        "openai_audio": [
            chunk(choice({"role": "assistant", "refusal": None, "audio": {"id": "audio_1", "transcript": "He"}})),
            chunk(choice({"audio": {"transcript": "llo", "data": "UklG"}})),
            chunk(choice({"audio": {"expires_at": 1_750_000_100}})),
            end(),
        ],
        "openai_function_call": [
            chunk(choice({"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": ""}})),
            chunk(choice({"function_call": {"arguments": '{"q"'}})),
            chunk(choice({"function_call": {"arguments": ":1}"}})),
            end("function_call"),
        ],
        "openai_custom_call": [
            call_chunk(fragment(0, "call_a", "look", "{}")),
            call_chunk({"index": 1, "id": "call_b", "type": "custom", "custom": {"name": "run", "input": ""}}),
            call_chunk({"index": 1, "custom": {"input": "ls -l"}}),
            end("tool_calls"),
        ],
        "openai_moderation": [role(), *text_chunks("All is well."), end(), chunk(moderation={"flagged": False})],
        "openai_empty": [role(**top), end(**top), usage_chunk],
        "openai_two_empty_choices": [role(0), role(1), end("stop", 0), end("stop", 1)],
        "openai_error": [role(), *text_chunks("Now that"), {"error": {"message": "The server had an error.",
                         "type": "server_error", "param": None, "code": None}}],
        "openai_truncated": [role(), *text_chunks("And then it")],
        "openai_late_choice": [
            text_chunk("b", 1), text_chunk("a", 0), text_chunk("c", 2), *(end(index=i) for i in (2, 0, 1)),
        ],
    }  # fmt: skip


def _azure() -> dict[str, list[Json]]:
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    filtered = {"hate": {"filtered": True, "severity": "high"}}
    first = chunk(id="", object="", created=0, model="", prompt_filter_results=[{"prompt_index": 0, "results": safe}])
    top: Json = {"system_fingerprint": "fp_az"}
    texts = [
        chunk(choice({"content": word}, content_filter_results=safe, logprobs=None), **top)
        for word in tokens("Oslo lies by a fjord.")
    ]
    opening = chunk(choice({"role": "assistant", "content": "", "refusal": None}, content_filter_results={}), **top)
    return {
        "azure_text": [first, opening, *texts, chunk(choice({}, "stop", content_filter_results={}), **top),
                       chunk(usage=USAGE, **top)],
        "azure_content_filter": [first, opening, *texts[:3],
                                 chunk(choice({}, "content_filter", content_filter_results=filtered), **top)],
        "azure_asynchronous_filter": [first, opening, *texts, end(**top),
                                      chunk({"index": 0, "finish_reason": None, "content_filter_results": safe,
                                             "content_filter_offsets": {"check_offset": 4}}, id="")],
        "azure_empty": [first, opening, chunk(choice({}, "stop", content_filter_results={}), **top)],
    }  # fmt: skip


def _mistral() -> dict[str, list[Json]]:
    def thinking(text: str) -> Json:
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}

    return {
        "mistral_text": [role(), *text_chunks("Bien sûr, voilà."), chunk(choice({"content": ""}, "stop"), usage=USAGE)],
        "mistral_thinking": [
            role(),
            *(chunk(choice({"content": [thinking(word)]})) for word in tokens("The user greets me.")),
            chunk(choice({"content": [thinking(" So."), {"type": "text", "text": "Hello"}]})),
            *text_chunks(" to you."),
            chunk(choice({"content": ""}, "stop"), usage=USAGE),
        ],
        "mistral_references": [
            text_chunk("As said "),
            chunk(choice({"content": [{"type": "text", "text": "there"},
                                      {"type": "reference", "reference_ids": [1, 2]}]})),
            text_chunk("."),
            end(),
        ],
        "mistral_calls": [
            role(),
            chunk(choice({"content": "", "tool_calls": [fragment(None, "Zx3kq9aBc", "look", '{"q": 1}')]})),
            chunk(choice({"content": "", "tool_calls": [fragment(None, "Qp8sd2Lmn", "look", '{"q": 2}'),
                                                        fragment(None, "Rt7fg1Klo", "open", "{}")]},
                         "tool_calls"), usage=USAGE),
        ],
        "mistral_repeated_name": [
            call_chunk(fragment(None, "Zx3kq9aBc", "look", '{"q"')),
            call_chunk(fragment(None, "Zx3kq9aBc", "look", ": 1}")),
            end("tool_calls"),
        ],
    }  # fmt: skip


def _reasoners() -> dict[str, list[Json]]:
    def thought(text: str, key: str = "reasoning_content") -> Json:
        return chunk(choice({"content": None, key: text}), system_fingerprint="fp_r")

    groq: Json = {"x_groq": {"id": "req_1"}}
    detail = {"type": "reasoning.encrypted", "data": "gAAAA", "format": "openai-responses-v1"}
    return {
        "deepseek_reasoning": [
            chunk(choice({"role": "assistant", "content": None, "reasoning_content": ""})),
            *(thought(word) for word in tokens("Nine is more than eight.")),
            *(chunk(choice({"content": word, "reasoning_content": None})) for word in tokens("Nine, of course.")),
            end(usage=USAGE),
        ],
        "deepseek_reasoning_then_calls": [
            *(thought(word) for word in tokens("I must look.")),
            call_chunk(fragment(0, "call_0_a", "look", "")),
            call_chunk(fragment(0, arguments='{"q":3}')),
            call_chunk(fragment(1, "call_1_b", "look", '{"q":4}')),
            end("tool_calls", usage=USAGE),
        ],
        "groq_reasoning": [
            chunk(choice({"role": "assistant", "content": ""}), **groq),
            *(thought(word, "reasoning") for word in tokens("Easy, that.")),
            *text_chunks("Forty two."),
            end(usage=USAGE, x_groq={"id": "req_1", "usage": USAGE}),
        ],
        "groq_whole_call": [
            chunk(choice({"role": "assistant", "content": None}), **groq),
            call_chunk(fragment(0, "fc_1", "look", '{"q":5}'), fragment(1, "fc_2", "open", "{}")),
            end("tool_calls", x_groq={"id": "req_1"}),
        ],
        "openrouter_encrypted_reasoning": [
            chunk(choice({"role": "assistant", "content": "", "reasoning": "Hm,",
                          "reasoning_details": [{"type": "reasoning.text", "text": "Hm,"}]})),
            chunk(choice({"content": "", "reasoning": " well.",
                          "reasoning_details": [{"type": "reasoning.text", "text": " well."}]})),
            chunk(choice({"content": "", "reasoning": None, "reasoning_details": [detail]})),
            *text_chunks("So be it."),
            chunk(choice({"content": ""}, "stop", native_finish_reason="completed")),
        ],
        "openrouter_error": [
            role(provider="Some"),
            *text_chunks("Half of"),
            chunk(choice({"content": ""}, "error"), error={"code": 502, "message": "Provider disconnected"}),
        ],
        "reasoning_between_texts": [
            *text_chunks("First this."), thought("Then"), thought(" what?"), *text_chunks("Then that."), end(),
        ],
    }  # fmt: skip


def _others() -> dict[str, list[Json]]:
    sources: Json = {"citations": ["https://example.org/1"], "search_results": [{"title": "One", "date": None}]}

    def perplexity(text: str, number: int, finish: str | None = None) -> Json:
        usage = {**USAGE, "completion_tokens": number}
        return chunk(choice({"role": "assistant", "content": text}, finish), usage=usage, **sources)

    kimi = ("functions.look:0", "functions.look:1")
    google = {"google": {"thought_signature": "CiQB+/8="}}
    return {
        "perplexity_search": [
            *(perplexity(word, number) for number, word in enumerate(tokens("Tides follow the moon [1]."))),
            perplexity("", 6, "stop"),
        ],
        "kimi_calls": [
            role(),
            *text_chunks("Two things."),
            call_chunk(fragment(0, kimi[0], "look", "")),
            call_chunk(fragment(0, arguments='{"q":"a:b"}')),
            call_chunk(fragment(1, kimi[1], "look", "")),
            call_chunk(fragment(1, arguments="{}")),
            chunk(choice({}, "tool_calls", usage=USAGE)),
        ],
        "alibaba_call": [
            chunk(choice({"role": "assistant", "content": "", "reasoning_content": "Let us see"})),
            call_chunk(fragment(0, "call_x1", "look", "")),
            call_chunk(fragment(0, "", None, '{"q": ')),
            call_chunk(fragment(0, "", "", "6}")),
            end("tool_calls"),
            chunk(usage=USAGE),
        ],
        "gemini_call": [
            chunk(choice({"role": "assistant", "tool_calls": [
                fragment(0, "function-call-1", "look", '{"q":7}', extra_content=google)]}, "tool_calls"), usage=USAGE),
        ],
        "gemini_calls_under_one_index": [
            call_chunk(fragment(0, "function-call-1", "look", '{"q":7}', extra_content=google)),
            call_chunk(fragment(0, "function-call-2", "open", '{"u":"/"}')),
            end("tool_calls", usage=USAGE),
        ],
        "gemini_text": [
            chunk(choice({"role": "assistant", "content": "Sun"}, extra_content=google), usage=USAGE),
            chunk(choice({"role": "assistant", "content": " and rain."}, "stop"), usage=USAGE),
        ],
        "xai_text": [
            *(chunk(choice({"role": "assistant", "content": word}), usage=USAGE) for word in tokens("Why not.")),
            end(usage=USAGE), chunk(usage=USAGE, citations=["https://example.org/9"]),
        ],
        "cerebras_text": [role(), *text_chunks("Fast it is."), end(usage=USAGE, time_info={"queue_time": 0.1})],
        "vllm_stop_reason": [role(), *text_chunks("Up to here"),
                             chunk(choice({}, "stop", stop_reason="###")), chunk(usage=USAGE)],
        "vllm_late_name": [
            call_chunk(fragment(0, "chatcmpl-tool-1", None, '{"q"')),
            call_chunk(fragment(0, None, "look", ":8}")),
            end("tool_calls"),
        ],
        "ollama_text": [
            *(chunk(choice({"role": "assistant", "content": word})) for word in tokens("Local, but fine.")),
            end(system_fingerprint="fp_ollama"),
        ],
        "changing_fingerprints": [role(system_fingerprint="fp_1"), text_chunk("one", system_fingerprint="fp_2"),
                                  text_chunk(" two", system_fingerprint="fp_2"), end(system_fingerprint="fp_3")],
        "cut_surrogates": [text_chunk("smile \ud83d"), text_chunk("\ude00 and \udc00"), text_chunk(" \ud83d"), end()],
        "separators": [text_chunk("a\u2028b"), text_chunk("\u0085\x00"), text_chunk("\ufeff\r\n\n"), end()],
    }  # fmt: skip


STREAMS: dict[str, list[Json]] = {**_openai(), **_azure(), **_mistral(), **_reasoners(), **_others()}
"""Streams by name. Two end in an error object (`…_error`), one is cut off (`…_truncated`)."""
