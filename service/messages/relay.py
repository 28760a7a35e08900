"""Whether the mail server accepts mail from us at all, by its answers, and how long to wait if not."""

from service.engine.retry import backoff
from service.messages.mail.smtp_reply import Fate, before_recipient
from service.messages.mail.transport import SendResult, SmtpPhase

_MAX_REFUSALS = 3
_FIRST_PAUSE = 5.0


class RelayState:
    """The state of sending, by the answers since the last accepted mail.

    A refusal before a recipient was named stops all sending. A later one concerns one message: only refusals
    of three different recipients, or of three contents for good, with nothing accepted in between, stop it.
    ``problem``: why sending is stopped; then single messages probe the server until one is accepted.
    ``probing``: a probe is under way.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self.probing = False
        self._recipients: set[str] = set()
        self._contents: set[int] = set()
        self._probes = 0

    @property
    def closed(self) -> bool:
        """Whether no message may be sent."""
        return self.problem is not None and not self.probing

    def note(self, fate: Fate, result: SendResult, recipient: str) -> None:
        """Update the state with one answer."""
        if fate is Fate.SENT:
            self._record_accepted()
        elif fate is Fate.OURS and before_recipient(result.phase):
            self.problem = f"the mail server refuses us at {result.phase}: {result.code}"
        elif fate is Fate.OURS:
            self._record_refusal(recipient.lower(), result)
        elif fate is Fate.CONTENT:
            self._record_content_refusal(result)

    def refuse(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        """No connection could be opened: no message can be sent."""
        reason = f"{code} {reply}" if code is not None else reply
        doing = "refuses us" if code is not None else "cannot be reached"
        self.problem = f"the mail server {doing} at {phase}: {' '.join(reason.split())[:200]}"
        self.probing = False

    def pause(self, *, probed: bool) -> float:
        """Seconds until the next probe: 5, doubling to 60 with each that failed."""
        self._probes += probed
        return backoff(self._probes, first=_FIRST_PAUSE)

    def _record_accepted(self) -> None:
        if self.closed:
            return  # sent over a connection from before sending stopped
        self.problem = None
        self._probes = 0
        self._recipients.clear()
        self._contents.clear()

    def _record_refusal(self, recipient: str, result: SendResult) -> None:
        if len(self._recipients) < _MAX_REFUSALS:
            self._recipients.add(recipient)
        if len(self._recipients) == _MAX_REFUSALS:
            self.problem = (
                f"the mail server refused mails to {_MAX_REFUSALS} recipients in a row"
                f" for what we are or send, at last at {result.phase}: {result.code}"
            )

    def _record_content_refusal(self, result: SendResult) -> None:
        if len(self._contents) < _MAX_REFUSALS:
            self._contents.add(result.id)
        if len(self._contents) == _MAX_REFUSALS:
            self.problem = (
                f"the mail server refused the content of {_MAX_REFUSALS} mails in a row: {result.code}"
            )
