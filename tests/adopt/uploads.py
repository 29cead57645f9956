"""Uploads through the pages of a project, and what a browser gets of them."""

from __future__ import annotations

from urllib.parse import quote

import httpx

#: A name as people have them.
NAME = "Käse & Brot, 50%.png"
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 3_000_000  # more than Django keeps in memory
#: What a browser would run, by the name under which it is uploaded.
ACTIVE = {
    "page.html": b"<script>alert(1)</script>",
    "image.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "data.xml": b"<x xmlns='http://www.w3.org/1999/xhtml'><script/></x>",
    "code.js": b"alert(1)",
    "page.xhtml": b"<html xmlns='http://www.w3.org/1999/xhtml'/>",
    "noextension": b"<script>alert(1)</script>",
    "PAGE.HTML": b"<script>alert(1)</script>",
}


def upload(client: httpx.Client, folder: str, name: str, content: bytes) -> str:
    """Upload a file; returns its address."""
    said = client.post("/upload/", data={"folder": folder}, files={"file": (name, content)})
    assert said.status_code == 200, said.text[-500:]
    return said.text


def kept(client: httpx.Client) -> str:
    """An upload with an odd name is shown as it is; returns its address."""
    address = upload(client, "a b/ü", NAME, PNG)
    shown = client.get(address)
    assert (shown.status_code, shown.content, shown.headers["Content-Type"]) == (200, PNG, "image/png")
    return address


def not_run(client: httpx.Client, folder: str) -> None:
    """nginx gives nothing to a browser that would run it, and shows images."""
    image = client.get(upload(client, folder, "x.png", PNG))
    assert "Content-Disposition" not in image.headers
    assert image.headers["X-Content-Type-Options"] == "nosniff"
    for name, content in ACTIVE.items():
        shown = client.get(upload(client, folder, name, content))
        assert shown.content == content
        assert shown.headers["Content-Disposition"] == "attachment", name
        assert shown.headers["X-Content-Type-Options"] == "nosniff"
        assert shown.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


def nothing_else(client: httpx.Client, prefix: str) -> None:
    """No folder is listed, and no address leads out of the folder of uploads."""
    for path in ("", "a%20b/", "a%20b", "../static/", "..%2f..%2fetc/passwd", "%2e%2e/%2e%2e/etc/passwd", ".hidden"):
        said = client.get(f"{prefix}{path}", follow_redirects=False)
        assert said.status_code in (400, 404), (path, said.status_code)
        assert "root:" not in said.text
    assert client.get(f"{prefix}{quote('nö such.png')}").status_code == 404
