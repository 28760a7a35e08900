"""Whether the mail server accepts mail from us at all, by its answers."""

from collections import deque
from dataclasses import dataclass

from service.messages.mail.reply_fingerprint import fingerprint
from service.messages.mail.smtp_reply import COUNTED, Fate, before_recipient
from service.messages.mail.transport import SendResult, SmtpPhase

_MAX_REFUSALS = 3
_MAX_DOMAINS = 3
_THROTTLE_SECONDS = 60.0
_RECENT = 100
_RECENT_SECONDS = 86_400.0
_SAME = 10
_SAME_SHARE = 0.3
_ALL_THE_SAME = 5


@dataclass(frozen=True, slots=True)
class RelayRefusal:
    """Why a mail server takes nothing from us. ``unreachable``: not even a connection could be opened.

    ``words``: the fingerprint of replies that speak of recipients, and are about us. ``reported``: they came
    later, in reports; that it takes a mail proves nothing until no report of that has come.
    """

    reason: str
    unreachable: bool = False
    words: str | None = None
    reported: bool = False


def too_many(same: int, recipients: int) -> bool:
    """Whether what was said of so many of the last recipients in the same words is about us, whatever it
    says: of ten and 30 %, or of five and all.
    """
    return (same >= _SAME and same >= _SAME_SHARE * recipients) or _ALL_THE_SAME <= same == recipients


class RelayState:
    """What the answers since the last accepted mail say.

    A refusal before a recipient was named stops all sending. A later one concerns one message: only refusals
    of three different recipients, or of three contents for good, with nothing accepted in between, stop it,
    and three domains that ask us in the same words to send more slowly. So does one reply, whatever it says
    of recipients, if too many of the last hundred within a day got it (``too_many``).
    ``refusal``: why sending is stopped; then single messages probe the server until one is accepted.
    ``probing``: a probe is under way; ``taken``: the mail of a probe that was accepted, and may still come
    back.
    """

    def __init__(self) -> None:
        self.refusal: RelayRefusal | None = None
        self.probing = False
        self.taken: int | None = None
        self._recipients: set[str] = set()
        self._contents: set[int] = set()
        self._throttles: dict[str, dict[str, float]] = {}
        self._own_throttle: str | None = None
        self._recent: deque[tuple[float, str, str | None]] = deque(maxlen=_RECENT)
        self._overruled: set[str] = set()

    @property
    def closed(self) -> bool:
        """Whether no message may be sent."""
        return self.refusal is not None and not self.probing

    def note(self, fate: Fate, result: SendResult, recipient: str, at: float) -> None:
        """Update the state with one answer, ``at`` seconds of a clock."""
        if fate is Fate.SENT:
            self._recent.append((at, recipient, None))
        elif fate in COUNTED:
            self._record_bounce(recipient, result, at)
        if fate is Fate.SENT and self.closed:
            return  # over a connection from before sending stopped
        if fate is Fate.SENT and self.refusal and self.refusal.reported:
            self.taken = result.id
        elif fate is Fate.SENT:
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

    def overrule(self) -> None:
        """A person opened the gate: what was said is about the recipients, whatever their share."""
        if self.refusal and self.refusal.words:
            self._overruled.add(self.refusal.words)
        self.accept()

    def _record_bounce(self, recipient: str, result: SendResult, at: float) -> None:
        words = fingerprint(result.code, result.reply)
        self._recent.append((at, recipient, words))
        said = {who: what for when, who, what in self._recent if when > at - _RECENT_SECONDS}
        same = sum(what == words for what in said.values())
        if too_many(same, len(said)) and words not in self._overruled:
            self.refusal = RelayRefusal(
                f"the mail server refused {same} of the last {len(said)} recipients in the same words, so"
                f" this is about us: {result.code} {' '.join(result.reply.split())[:200]}",
                words=words,
            )

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
