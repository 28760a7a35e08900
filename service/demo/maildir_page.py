"""The local inbox: pages that show the mails in the Maildir, without scripts."""

import asyncio
import re
from dataclasses import dataclass
from email import message_from_string, policy
from email.message import EmailMessage
from html import escape
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

_KEY = re.compile(r"[0-9]{1,18}\.mail")
_MAX_MAILS = 500
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; form-action 'self'; base-uri 'none'"
)
_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; sandbox;"
    " frame-ancestors 'self'"
)
_STYLE = """
:root { color-scheme: light dark; --bg:#f3f5f8; --card:#fff; --ink:#141a21;
  --soft:#55606d; --line:#dfe4ea; --link:#2f5fe0 }
@media (prefers-color-scheme: dark) {
  :root { --bg:#0f1216; --card:#181d24; --ink:#f2f5f8; --soft:#a9b4c0; --line:#2a323c; --link:#8fb0ff } }
* { box-sizing: border-box }
body { margin:0; background:var(--bg); color:var(--ink);
  font:16px/1.5 -apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif }
main { max-width:960px; margin:0 auto; padding:40px 16px 64px }
h1 { font-size:27px; line-height:34px; margin:0 0 4px; letter-spacing:-.3px; overflow-wrap:anywhere }
p.soft, .soft { color:var(--soft); margin:0 0 24px }
a { color:var(--link) }
form { margin:0 0 20px; display:flex; gap:8px }
input { flex:1; min-width:0; font:inherit; padding:10px 14px;
  border:1px solid var(--line); border-radius:10px;
  background:var(--card); color:inherit }
button { font:inherit; font-weight:600; padding:10px 18px; border:0; border-radius:10px;
  background:#2f5fe0; color:#fff }
ul { list-style:none; margin:0; padding:0; background:var(--card); border-radius:14px; overflow:hidden }
li + li { border-top:1px solid var(--line) }
li a { display:grid; grid-template-columns:minmax(0,240px) minmax(0,1fr); gap:2px 20px; padding:14px 20px;
  text-decoration:none; color:inherit }
li a:hover, li a:focus-visible { background:var(--bg) }
li b, li span { white-space:nowrap; overflow:hidden; text-overflow:ellipsis }
li span { color:var(--soft) }
@media (max-width:640px) { li a { grid-template-columns:minmax(0,1fr) } }
nav { margin:0 0 16px; display:flex; gap:20px; flex-wrap:wrap }
nav a[aria-current] { color:var(--ink); font-weight:600; text-decoration:none }
iframe { width:100%; height:1100px; border:1px solid var(--line); border-radius:14px; background:var(--card) }
pre { background:var(--card); border-radius:14px; padding:20px; overflow:auto; white-space:pre-wrap;
  overflow-wrap:anywhere; font:14px/1.5 ui-monospace,Menlo,Consolas,monospace }
"""


@dataclass(frozen=True, slots=True)
class ListedMail:
    """A row of the list."""

    key: str
    to: str
    subject: str


def routes(folder: Path) -> list[web.RouteDef]:
    """The routes of the inbox and its mails."""
    box = _Inbox(folder)
    return [
        web.get("/inbox", box.listing),
        web.get("/inbox/{key}", box.mail),
        web.get("/inbox/{key}/html", box.html),
    ]


class _Inbox:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "new"

    async def listing(self, request: web.Request) -> web.Response:
        """The newest mails, and a search over recipients and subjects."""
        query = request.query.get("q", "").strip()
        total, mails = await asyncio.to_thread(self._list, query.casefold())
        return _page("Inbox", _listing(total, mails, query))

    async def mail(self, request: web.Request) -> web.Response:
        """One mail: its HTML, its text, or its source."""
        raw = await self._raw(request)
        view = request.query.get("view", "html")
        return _page(_subject(_parsed(raw)), _mail(request.match_info["key"], raw, view))

    async def html(self, request: web.Request) -> web.Response:
        """The HTML part alone, for the frame; its policy allows no scripts and no requests."""
        part = _parsed(await self._raw(request)).get_body(("html",))
        text = part.get_content() if part else "<p>This mail has no HTML part.</p>"
        headers = {"Content-Security-Policy": _MAIL_POLICY, "X-Frame-Options": "SAMEORIGIN"}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _raw(self, request: web.Request) -> bytes:
        key = request.match_info["key"]
        if not _KEY.fullmatch(key):
            raise web.HTTPNotFound
        try:
            return await asyncio.to_thread((self._folder / key).read_bytes)
        except FileNotFoundError:
            raise web.HTTPNotFound from None

    def _list(self, query: str) -> tuple[int, list[ListedMail]]:
        paths = sorted(self._folder.iterdir(), reverse=True)
        mails: list[ListedMail] = []
        for path in paths:
            mail = _parsed(path.read_bytes().partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            entry = ListedMail(path.name, str(mail["To"]), _subject(mail))
            if query in f"{entry.to} {entry.subject}".casefold():
                mails.append(entry)
            if len(mails) == _MAX_MAILS:
                break
        return len(paths), mails


def _parsed(raw: bytes) -> EmailMessage:
    return message_from_string(raw.decode("utf-8", "replace"), policy=policy.default)


def _subject(mail: EmailMessage) -> str:
    return str(mail["Subject"] or "(no subject)")


def _listing(total: int, mails: list[ListedMail], query: str) -> str:
    rows = "".join(
        f'<li><a href="/inbox/{quote(mail.key)}"><span>{escape(mail.to)}</span>'
        f"<b>{escape(mail.subject)}</b></a></li>"
        for mail in mails
    )
    count = f"{len(mails)} of {total} mails" if len(mails) < total else f"{total} mails"
    empty = '<p class="soft">Nothing here.</p>'
    return (
        f'<h1>Inbox</h1><p class="soft">{count}, newest first. Nothing left this machine.</p>'
        f'<form action="/inbox"><input name="q" type="search" aria-label="Search" placeholder="Name'
        f' or subject" value="{escape(query)}"><button>Search</button></form>'
        + (f"<ul>{rows}</ul>" if rows else empty)
    )


def _mail(key: str, raw: bytes, view: str) -> str:
    mail = _parsed(raw)
    address = f"/inbox/{quote(key)}"
    tabs = "".join(
        f'<a href="{address}?view={name}"{" aria-current=page" if name == view else ""}>{label}</a>'
        for name, label in (("html", "HTML"), ("text", "Text"), ("source", "Source"))
    )
    if view == "source":
        body = f"<pre>{escape(raw.decode('utf-8', 'replace'))}</pre>"
    elif view == "text":
        part = mail.get_body(("plain",))
        body = f"<pre>{escape(part.get_content() if part else '')}</pre>"
    else:
        body = f'<iframe sandbox title="The mail" src="{address}/html"></iframe>'
    return (
        f'<p class="soft"><a href="/inbox">← Inbox</a></p><h1>{escape(_subject(mail))}</h1>'
        f'<p class="soft">to {escape(str(mail["To"]))} · {escape(str(mail["Date"]))}</p>'
        f"<nav>{tabs}</nav>{body}"
    )


def _page(title: str, body: str) -> web.Response:
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main>{body}</main></body></html>"
    )
    headers = {"Content-Security-Policy": _PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
    return web.Response(text=text, content_type="text/html", headers=headers)
