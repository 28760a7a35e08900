"""Postfix as a relay, in a folder of its own."""

import asyncio
import base64
import pwd
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.story.relays import name_server
from tests.story.relays.relay import DOMAIN, HOST, PASSWORD, USER, Setup, running

_PROGRAM = shutil.which("postfix", path="/usr/sbin:/usr/local/sbin")
_OWNER = "postfix"

_MAIN = """
compatibility_level = 3.6
myhostname = {host}
mydestination = {host}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log/postfix
maillog_file_prefixes = {folder}
mail_owner = postfix
setgid_group = postdrop
alias_maps =
alias_database =
local_recipient_maps =
mynetworks = 192.0.2.0/24
biff = no
maximal_queue_lifetime = 0
bounce_queue_lifetime = 0
smtp_connect_timeout = 5s
smtp_tls_security_level = none
smtp_host_lookup = dns
transport_maps = texthash:{folder}/transport
recipient_delimiter = +
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = inline:{{ bounce@{domain}=bounces/ }}
virtual_mailbox_base = {folder}
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{auth}
message_size_limit = 100000
header_checks = regexp:{folder}/header_checks
smtpd_helo_required = yes
smtpd_error_sleep_time = 0
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access texthash:{folder}/recipients
smtpd_restriction_classes = listed, unknown_sender, unknown_domain, odd_helo
listed = reject_rbl_client {lists_us}
unknown_sender = reject_unknown_sender_domain
unknown_domain = reject_unknown_recipient_domain
odd_helo = reject_non_fqdn_helo_hostname, reject_unknown_helo_hostname
"""

_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
scache unix - - n - 1 scache
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


def missing() -> str | None:
    """Why there is no Postfix here; None: there is."""
    return None if _PROGRAM else "no postfix here (Debian: apt-get install postfix)"


@asynccontextmanager
async def postfix(given: Setup, before: Sequence[str]) -> AsyncIterator[None]:
    """Run it; ``before``: what stands before the command."""
    owner = pwd.getpwnam(_OWNER)
    given.belongs_to("root", "queue", "log")
    given.belongs_to(_OWNER, "data", "bounces/new", "bounces/cur", "bounces/tmp", "bounces")
    async with _passwords() as auth:
        values = {
            "folder": given.folder,
            "port": given.port,
            "auth": auth,
            "host": HOST,
            "domain": DOMAIN,
            "lists_us": name_server.LISTS_US,
            "uid": owner.pw_uid,
            "gid": owner.pw_gid,
            "certificate": given.certificate.certificate,
            "key": given.certificate.key,
        }
        main = given.write("config/main.cf", _MAIN.format(**values))
        given.write("config/master.cf", _MASTER.format(**values))
        routes = (f"{domain} smtp:[127.0.0.1]:{port}\n" for domain, port in given.routes.items())
        given.write("transport", "".join(routes))
        given.write("header_checks", "/^Subject: .*forbidden/ REJECT message content rejected\n")
        given.write("recipients", _RECIPIENTS)
        assert _PROGRAM is not None
        async with running(given, [*before, _PROGRAM, "-c", str(main.parent), "start-fg"]):
            yield


_RECIPIENTS = """
listed@wire.example listed
unknown_sender@wire.example unknown_sender
odd_helo@wire.example odd_helo
wire.dead.example unknown_domain
wire.lame.example unknown_domain
rejected@wire.example REJECT
policy@wire.example 550 5.7.1 Local policy
full@wire.example 552 5.2.2 Mailbox full
later@wire.example DEFER
unknown@wire.example 550 5.1.1 User unknown
"""


@asynccontextmanager
async def _passwords() -> AsyncIterator[int]:
    """Postfix asks whoever speaks Dovecot's protocol whether a password is right; its port."""
    right = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0\nDONE\n")
        while line := (await reader.readline()).decode().rstrip("\n"):
            if line.startswith("AUTH\t"):
                number, response = line.split("\t")[1], line.partition("resp=")[2]
                said = "OK" if response == right else "FAIL"
                writer.write(f"{said}\t{number}\tuser={USER}\n".encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
