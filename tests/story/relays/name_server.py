"""A name server that knows a few domains, and what a process sees that asks no other."""

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

DEAD, LAME, NULL_MX, LOST_MX = "dead.example", "lame.example", "nullmx.example", "lostmx.example"
"""Domains that do not exist; whose name server fails; that take no mail; whose mail server has no address."""
LISTS_US = "dnsbl.example"
"""A block list that has every address."""
_MX = {NULL_MX: "0 .", LOST_MX: f"10 mx.{DEAD}."}


class _NameServer(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(_answer(dns.message.from_wire(data)).to_wire(), addr)


def _answer(query: dns.message.Message) -> dns.message.Message:
    (question,) = query.question
    name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
    answer = dns.message.make_response(query, recursion_available=True)
    if name.endswith(LAME):
        answer.set_rcode(dns.rcode.SERVFAIL)
    elif name in _MX or name.endswith(f".{LISTS_US}"):
        if said := {"MX": _MX.get(name), "A": "127.0.0.2" if name.endswith(LISTS_US) else None}.get(kind):
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, said))
    else:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    return answer


@asynccontextmanager
async def name_server(folder: Path) -> AsyncIterator[list[str]]:
    """What stands before a command, so that it asks no other name server, and ends with all its processes."""
    address = ".".join(map(str, (127, *random.choices(range(1, 255), k=3))))
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        _NameServer, local_addr=(address, 53)
    )
    file = folder / "resolv.conf"
    file.write_text(f"nameserver {address}\noptions timeout:2 attempts:1\n")
    file.chmod(0o644)
    mount = f'mount --bind "{file}" /etc/resolv.conf && exec "$@"'
    try:
        yield ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mount, "relay"]
    finally:
        transport.close()


def may_be_asked_alone() -> bool:
    """Whether this process may give another one a name server of its own."""
    command = ["unshare", "--mount", "--pid", "--fork", "mount", "--bind", "/etc/hosts", "/etc/resolv.conf"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
