"""The HTTP client: timeouts, retries where they are safe, and one sentence for every error."""

import asyncio
import json
import os
import shlex
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from service.cli.exit_codes import CommandError, Exit
from service.cli.tables import clean
from service.cli.target import Target

_CONNECT_TIMEOUT = 10.0
_MAX_ATTEMPTS = 3
_RETRY_DELAY = 0.5
_EXIT_CODES = {
    **dict.fromkeys((400, 413, 415), Exit.WRONG_USE),
    **dict.fromkeys((401, 403), Exit.NOT_ALLOWED),
    **dict.fromkeys((502, 503, 504), Exit.UNAVAILABLE),
}
_CONNECTION_LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError)


IN_PROGRESS = "still being carried out"
"""The part of the service's 409 message for an Idempotency-Key whose request is in progress."""


class _Busy(Exception):
    """The request with this Idempotency-Key is still in progress."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the service."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content: str = "application/json"
    key: str = ""
    """The Idempotency-Key, which makes retries safe. Empty: the request changes nothing."""
    timeout: float = 60.0
    """Seconds without data after which the request fails."""
    ok_statuses: tuple[int, ...] = (200, 201, 202)


class Client:
    """A client of one running service."""

    def __init__(self, target: Target, session: aiohttp.ClientSession) -> None:
        self._target = target
        self._session = session

    async def send(self, request: Request) -> bytes:
        """The body of the answer; retries if the connection is lost. Raises CommandError."""
        failures, clock = 0, asyncio.get_running_loop().time
        deadline = clock() + request.timeout
        while True:
            try:
                async with self._answer(request) as response:
                    body = await response.read()
                    if response.status >= 400 and "data" not in _object(body):
                        raise self._refusal(response.status, body, response)
                    return body
            except _Busy as busy:  # the first attempt, whose connection was lost, is in progress
                if not failures or clock() > deadline:
                    raise CommandError(str(busy), Exit.FAILED) from None
            except (aiohttp.ClientError, TimeoutError) as error:
                failures += 1
                if failures == _MAX_ATTEMPTS or not _worth_retrying(error, failures):
                    raise CommandError(self._describe(error, request), Exit.UNAVAILABLE) from None
            await asyncio.sleep(_RETRY_DELAY * failures)

    async def stream(self, request: Request) -> AsyncIterator[bytes]:
        """The answer in chunks. Raises CommandError, also if the connection is lost in between."""
        try:
            async with self._answer(request) as response:
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CommandError(self._describe(error, request), Exit.UNAVAILABLE) from None

    @asynccontextmanager
    async def _answer(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Content-Type": request.content} if request.body is not None else {}
        if request.key:
            headers["Idempotency-Key"] = request.key
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=request.timeout)
        async with self._session.request(
            request.method, self._target.url + request.path, params=request.query, data=request.body,
            headers=headers, timeout=timeout, allow_redirects=False,
        ) as response:  # fmt: skip
            if response.status not in request.ok_statuses:
                raise self._refusal(response.status, await _start_of(response), response)
            yield response

    def _refusal(self, status: int, body: bytes, response: aiohttp.ClientResponse) -> "CommandError | _Busy":
        answer = _object(body)
        sentence = clean(str(answer["error"])) if "error" in answer else self._unexpected_answer(response)
        if status == 409 and IN_PROGRESS in sentence:
            return _Busy(sentence)
        if status == 401:
            sentence += "; " + self._token_hint()
        elif status == 403 and self._target.token_from:
            sentence += f" (token from {self._target.token_from}); use one that may"
        elif answer.get("runId"):
            sentence += f": run {answer['runId']} is {answer.get('state')}; see runs show {answer['runId']}"
        return CommandError(sentence, _EXIT_CODES.get(status, Exit.FAILED))

    def _unexpected_answer(self, response: aiohttp.ClientResponse) -> str:
        """The error for an answer that is not from this service."""
        if 300 <= response.status < 400:
            location = clean(response.headers.get("Location", "elsewhere"))
            return f"{self._target.url} leads to {location}; name that address in --url"
        return f"{self._target.url} answered {response.status}, but not as this service does: is --url right?"

    def _token_hint(self) -> str:
        if self._target.token_from:
            return f"the token came from {self._target.token_from}: is it this service's?"
        return "set JOBS_TOKEN, or name a file that holds the token with --token-file"

    def _describe(self, error: Exception, request: Request) -> str:
        hint = f"; {how_to_retry(request)}" if request.key else ""
        return self._reason(error, request) + hint

    def _reason(self, error: Exception, request: Request) -> str:  # noqa: PLR0911 - one sentence for each
        url = self._target.url
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return (
                    f"{url}: its certificate is not trusted ({_certificate(error)});"
                    " let SSL_CERT_FILE name the authority's file"
                )
            case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
                return f"{url} does not speak TLS as expected; is it http:// there?"
            case aiohttp.ClientConnectorDNSError():
                return f"{url}: this name is not known; is --url right?"
            case aiohttp.ConnectionTimeoutError():
                return f"{url} cannot be reached within {_CONNECT_TIMEOUT:g} s; is --url right?"
            case aiohttp.ServerTimeoutError() | TimeoutError():
                return f"{url} kept silent for {request.timeout:g} s; allow more with --timeout"
            case aiohttp.ClientConnectorError():
                reason = os.strerror(error.os_error.errno or 0)
                return f"{url} cannot be reached: {reason}; does the service run, and is --url right?"
            case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | aiohttp.ClientPayloadError():
                return f"{url} broke off the connection before the answer was whole"
        return f"{url}: {clean(str(error))}"


def how_to_retry(request: Request) -> str:
    """How to retry a request whose result is unknown."""
    return f"whether it was done is not known: ask again with --key {shlex.quote(request.key)}"


def _certificate(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    return clean(getattr(cause, "verify_message", "") or str(cause))


def _worth_retrying(error: Exception, failures: int) -> bool:
    """Whether to retry: the connection was lost, or was refused after a loss. A first refusal is final."""
    return isinstance(error, _CONNECTION_LOST) and (
        failures > 1 or not isinstance(error, aiohttp.ClientConnectorError)
    )


async def _start_of(response: aiohttp.ClientResponse) -> bytes:
    return await response.content.read(64 * 1024)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@asynccontextmanager
async def connected(target: Target, user_agent: str) -> AsyncIterator[Client]:
    """A client, whose session is closed at the end."""
    headers = {"User-Agent": user_agent}
    if target.token:
        headers["Authorization"] = f"Bearer {target.token}"
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Client(target, session)
