import base64
import hashlib
import re

from tailrace_frontend.http.not_found_page import MAX_PATH, not_found_page


def test_page_repeats_the_address_without_its_markup() -> None:
    response = not_found_page("/<script>alert(1)</script>\ud800")
    assert response.status_code == 404
    assert b"<script" not in response.body
    assert b"&lt;script&gt;" in response.body
    assert len(not_found_page("/" + "x" * 10_000).body) < len(not_found_page("/").body) + MAX_PATH


def test_page_may_use_its_own_style_and_nothing_else() -> None:
    response = not_found_page("/nothing")
    (style,) = re.findall("<style>(.*?)</style>", bytes(response.body).decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = response.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert (response.headers["vary"], response.headers["x-content-type-options"]) == ("Accept", "nosniff")
