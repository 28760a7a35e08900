"""The local inbox as a transport: it pulls from the queue, one mail at a time."""

from pathlib import Path

from service.messages.mail.maildir import MaildirTransport
from service.messages.mail.transport import Envelope
from tests.messages.mail.mails import Mails, envelope, send
from tests.process import until


def _kept(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "new").iterdir()}


async def test_mails_that_were_granted_become_files(tmp_path: Path) -> None:
    box = MaildirTransport(tmp_path)
    bad = Envelope(3, "a@example.org", "no address", b"x\r\n")
    mails = await send(box, envelope(1), envelope(2), bad, envelope(4), denied=[2])
    alone = await box.send_one(envelope(5))
    await box.close()

    assert sorted(mails.ends) == [(1, True, "dot", 250), (3, False, "rcpt", 553), (4, True, "dot", 250)]
    assert alone.accepted
    assert _kept(tmp_path) == {f"{n:012d}.mail": envelope(n).content for n in (1, 4, 5)}


async def test_a_stop_gives_back_what_waits_for_its_grant_and_writes_what_has_it(tmp_path: Path) -> None:
    box = MaildirTransport(tmp_path)
    mails = Mails(envelope(1), envelope(2), envelope(3), held=[1, 2])
    box.start(mails)
    box.wake()
    await until(lambda: mails.requested == [1])
    box.wake()
    assert mails.requested == [1]  # one at a time
    mails.requests[1](True)
    await box.stop(60.0)
    assert mails.ends == [(1, True, "dot", 250)]

    box.start(mails)
    box.wake()
    await until(lambda: mails.requested == [1, 2])
    await box.stop(60.0)
    mails.requests[2](True)
    assert (mails.given_back, len(_kept(tmp_path))) == ([2], 1)


async def test_a_folder_that_cannot_be_written_is_a_passing_trouble(tmp_path: Path) -> None:
    box = MaildirTransport(tmp_path)
    (tmp_path / "tmp").rmdir()

    mails = await send(box, envelope(1))

    assert mails.ends == [(1, False, "data", 452)]
    assert "cannot be written" in (await box.ping() or "")
