from tailrace.upstreams.profiles import PROFILES, without_refused_fields


def test_profiles_name_themselves() -> None:
    assert [profile.name for profile in PROFILES.values()] == list(PROFILES)
    assert len(PROFILES) == 15


def test_profiles_that_continue_a_partial_answer_name_the_fields() -> None:
    continuing = {name: profile.continues for name, profile in PROFILES.items() if profile.continues}
    assert sorted(continuing) == sorted(
        ["groq", "deepseek", "mistral", "moonshot", "alibaba", "openrouter", "vllm", "llama.cpp"]
    )
    assert continuing["vllm"].body == {"continue_final_message": True, "add_generation_prompt": False}
    assert continuing["mistral"].message == {"prefix": True}
    assert continuing["alibaba"].message == {"partial": True}


def test_stream_options_are_left_out_where_the_product_refuses_them() -> None:
    body = {"model": "m", "stream_options": {"include_usage": True}}
    assert without_refused_fields(PROFILES["mistral"], body) == {"model": "m"}
    assert without_refused_fields(PROFILES["openai"], body) is body
    assert "stream_options" in body
