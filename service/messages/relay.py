"""Whether the mail server accepts mail from us at all, by its answers."""

from dataclasses import dataclass

from service.messages.mail.reply_fingerprint import fingerprint
from service.messages.mail.smtp_reply import Fate, before_recipient
from service.messages.mail.transport import SendResult, SmtpPhase

_MAX_REFUSALS = 3
_MAX_DOMAINS = 3
_THROTTLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RelayRefusal:
    """Why a mail server takes nothing from us. ``unreachable``: not even a connection could be opened."""

    reason: str
    unreachable: bool = False


class RelayState:
    """What the answers since the last accepted mail say.

    A refusal before a recipient was named stops all sending. A later one concerns one message: only refusals
    of three different recipients, or of three contents for good, with nothing accepted in between, stop it,
    and three domains that ask us in the same words to send more slowly.
    ``refusal``: why sending is stopped; then single messages probe the server until one is accepted.
    ``probing``: a probe is under way.
    """

    def __init__(self) -> None:
        self.refusal: RelayRefusal | None = None
        self.probing = False
        self._recipients: set[str] = set()
        self._contents: set[int] = set()
        self._throttles: dict[str, dict[str, float]] = {}
        self._own_throttle: str | None = None

    @property
    def closed(self) -> bool:
        """Whether no message may be sent."""
        return self.refusal is not None and not self.probing

    def note(self, fate: Fate, result: SendResult, recipient: str) -> None:
        """Update the state with one answer."""
        if fate is Fate.SENT and not self.closed:  # else over a connection from before sending stopped
            self.accept()
        elif fate is Fate.OURS and before_recipient(result.phase):
            self.refusal = RelayRefusal(f"the mail server refuses us at {result.phase}: {result.code}")
        elif fate is Fate.OURS:
            self._record_refusal(recipient.lower(), result)
        elif fate is Fate.CONTENT:
            self._record_content_refusal(result)

    def refuse(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        """No connection could be opened: no message can be sent."""
        reason = f"{code} {reply}" if code is not None else reply
        doing = "refuses us" if code is not None else "cannot be reached"
        text = f"the mail server {doing} at {phase}: {' '.join(reason.split())[:200]}"
        self.refusal = RelayRefusal(text, unreachable=True)

    def throttle(self, domain: str, result: SendResult, at: float) -> frozenset[str]:
        """A recipient's domain asks us to send more slowly, ``at`` seconds of a clock.

        Three domains that say so in the same words within a minute are one relay that does: then sending
        stops, and they are returned.
        """
        words = fingerprint(result.code, result.reply)
        if self.refusal and words == self._own_throttle:
            return frozenset({domain})
        same = self._throttles.setdefault(words, {})
        same[domain] = at
        for name in [name for name, said in same.items() if said < at - _THROTTLE_SECONDS]:
            del same[name]
        if len(same) < _MAX_DOMAINS or self.probing:
            return frozenset()
        self._throttles.clear()
        self._own_throttle = words
        reply = " ".join(result.reply.split())[:200]
        self.refusal = RelayRefusal(f"the mail server asks us to send more slowly: {result.code} {reply}")
        return frozenset(same)

    def accept(self) -> None:
        """The server takes mail again."""
        self.refusal = None
        self._recipients.clear()
        self._contents.clear()
        self._throttles.clear()

    def _record_refusal(self, recipient: str, result: SendResult) -> None:
        if len(self._recipients) < _MAX_REFUSALS:
            self._recipients.add(recipient)
        if len(self._recipients) == _MAX_REFUSALS:
            self.refusal = RelayRefusal(
                f"the mail server refused mails to {_MAX_REFUSALS} recipients in a row"
                f" for what we are or send, at last at {result.phase}: {result.code}"
            )

    def _record_content_refusal(self, result: SendResult) -> None:
        if len(self._contents) < _MAX_REFUSALS:
            self._contents.add(result.id)
        if len(self._contents) == _MAX_REFUSALS:
            self.refusal = RelayRefusal(
                f"the mail server refused the content of {_MAX_REFUSALS} mails in a row: {result.code}"
            )
