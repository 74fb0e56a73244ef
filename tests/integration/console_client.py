"""A person's way through the console without a browser: cookies are kept, forms are sent as they came."""

import html
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.cookiejar import CookieJar
from typing import NamedTuple
from urllib.parse import urlencode

from tests.integration.web_process import Web

TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


class Page(NamedTuple):
    """The answer to a request, after redirects: the page as it came, and with what was escaped in it."""

    status: int
    path: str
    headers: Mapping[str, str]
    source: str
    text: str


class Person:
    """Somebody at the console."""

    def __init__(self, web: Web) -> None:
        self._url = web.url
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path: str, **query: object) -> Page:
        """A page."""
        return self._ask(path + (f"?{urlencode(query)}" if query else ""), None)

    def post(self, path: str, **fields: object) -> Page:
        """Sends a form, without its token unless that is among the fields."""
        return self._ask(path, urlencode(fields).encode())

    def send(self, path: str, page: str, **fields: object) -> Page:
        """Sends a form with the token that is on a page."""
        return self.post(path, form_token=token(self.get(page)), **fields)

    def upload(self, path: str, page: str, file: bytes, **fields: object) -> Page:
        """Sends a form with a file, as a browser does, with the token that is on a page."""
        mark = "----of-the-tests"
        values = {"form_token": token(self.get(page)), **fields}
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in values.items()
        ]
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n'
            "Content-Type: text/csv\r\n\r\n"
        )
        body = "".join([*parts, head]).encode() + file + f"\r\n--{mark}--\r\n".encode()
        return self._ask(path, body, f"multipart/form-data; boundary={mark}")

    def sign_in(self, **fields: object) -> Page:
        """Signs in by `secret`, or `user` and `secret`."""
        return self.send("/login", "/login", **fields)

    def _ask(self, path: str, body: bytes | None, content_type: str = "") -> Page:
        headers = {"Content-Type": content_type} if content_type else {}
        request = urllib.request.Request(f"{self._url}{path}", body, headers)  # noqa: S310 - our own
        try:
            with self._opener.open(request, timeout=60) as answer:
                return _page(answer.status, answer.url, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            return _page(error.code, error.url, dict(error.headers), error.read())


def token(page: Page) -> str:
    """The token of the page's forms; fails when there is none."""
    found = TOKEN.search(page.text)
    assert found, page
    return found[1]


def _page(status: int, url: str, headers: Mapping[str, str], body: bytes) -> Page:
    lower = {name.lower(): value for name, value in headers.items()}
    path = "/" + url.split("/", 3)[3]
    source = body.decode()
    return Page(status, path, lower, source, html.unescape(source))
