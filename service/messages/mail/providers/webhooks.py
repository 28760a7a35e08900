"""The webhooks that are configured, and who processes what they report."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.messages.mail.providers.provider_event import Provider
from service.messages.mail.providers.provider_intake import ProviderIntake


@dataclass(frozen=True)
class Webhooks:
    """``providers``: by the name in the address of the webhook."""

    intake: ProviderIntake
    providers: Mapping[str, Provider] = field(default_factory=dict)
