"""Exim as a relay, in its own folder. Its package and Postfix's exclude each other: .ci/run unpacks it."""

import os
import pwd
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.story.relays import name_server
from tests.story.relays.relay import DOMAIN, HOST, PASSWORD, USER, Setup, running

_OWNER = "Debian-exim"
UNPACKED = Path(".cache/exim/usr/sbin/exim4")
"""Where .ci/run puts it."""

_CONFIG = """
exim_path = {program}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/spool/pid
keep_environment =
primary_hostname = {host}
deliver_drop_privilege = true
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
domainlist here = {domain} : wire.example
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {key}
auth_advertise_hosts = ${{if def:tls_in_cipher {{*}}}}
helo_allow_chars =
acl_smtp_rcpt = recipient
acl_smtp_data = content
message_size_limit = 100K
rfc1413_query_timeout = 0s

begin acl
recipient:
  deny    recipients = listed@wire.example
          dnslists = {lists_us}
  deny    recipients = listed_in_words@wire.example
          dnslists = {lists_us}
          message = rejected because $sender_host_address is in a black list at $dnslist_domain
  deny    recipients = unknown_sender@wire.example
         !verify = sender
  deny    recipients = odd_helo@wire.example
         !verify = helo
  deny    recipients = rejected@wire.example
  deny    recipients = policy@wire.example
          message = 550 5.7.1 Local policy
  deny    recipients = full@wire.example
          message = 552 5.2.2 Mailbox full
  defer   recipients = later@wire.example
  deny    recipients = unknown@wire.example
         !verify = recipient
  deny    recipients = called@called.example
         !verify = recipient/callout=5s
  deny    domains = wire.dead.example : wire.lame.example
         !verify = recipient
  accept  authenticated = *
  accept  domains = {domain}
          verify = recipient
  deny    message = relay not permitted

content:
  deny    condition = ${{if match{{$h_subject:}}{{forbidden}}}}
          message = message content rejected
  accept

begin routers
bounces:
  driver = accept
  domains = {domain}
  local_parts = bounce
  local_part_suffix = +*
  local_part_suffix_optional
  transport = maildir
small:
  driver = accept
  domains = small.example
  transport = small_mailbox
filter:
  driver = accept
  domains = filter.example
  transport = filter
routes:
  driver = manualroute
  domains = !+here
  route_data = ${{lookup{{$domain}}lsearch{{{folder}/routes}}}}
  self = send
  transport = smtp
dns:
  driver = dnslookup
  domains = !+here
  transport = smtp

begin transports
smtp:
  driver = smtp
  allow_localhost
  connect_timeout = 5s
  hosts_avoid_tls = *
maildir:
  driver = appendfile
  directory = {folder}/bounces
  maildir_format
  envelope_to_add
  return_path_add
  user = {owner}
small_mailbox:
  driver = appendfile
  file = {folder}/bounces/small
  quota = 1K
  user = {owner}
filter:
  driver = pipe
  command = /bin/false
  user = {owner}

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
"""
"""Without rules for retries it gives up at the first failure."""


def _program() -> str | None:
    """That of ``EXIM``, the one of this system, or the unpacked one."""
    places = (os.environ.get("EXIM"), "/usr/sbin/exim4", UNPACKED)
    return next((str(Path(place).resolve()) for place in places if place and os.access(place, os.X_OK)), None)


def missing() -> str | None:
    """Why there is no Exim here; None: there is."""
    if _program() is None:
        return "no exim4 here (Debian: unpack exim4-daemon-light as .ci/run does, or name it in EXIM)"
    try:
        pwd.getpwnam(_OWNER)
    except KeyError:
        return f"Exim runs as {_OWNER}, and there is no such user (.ci/run makes it)"
    return None


@asynccontextmanager
async def exim(given: Setup, before: Sequence[str]) -> AsyncIterator[None]:
    """Run it; ``before``: what stands before the command."""
    given.belongs_to(_OWNER, "spool", "log", "bounces/new", "bounces/cur", "bounces/tmp", "bounces")
    program = given.folder / "exim4"
    shutil.copyfile(str(_program()), program)  # without its right to become root
    program.chmod(0o755)
    values = {
        "program": program,
        "folder": given.folder,
        "port": given.port,
        "host": HOST,
        "domain": DOMAIN,
        "lists_us": name_server.LISTS_US,
        "user": USER,
        "password": PASSWORD,
        "owner": _OWNER,
        "certificate": given.certificate.certificate,
        "key": given.certificate.key,
    }
    config = given.write("exim.conf", _CONFIG.format(**values))
    given.write("routes", "".join(f"{domain}: 127.0.0.1::{port}\n" for domain, port in given.routes.items()))
    async with running(given, [*before, str(program), "-C", str(config), "-bdf"]):
        yield
