"""Amazon SES, whose reports arrive over Amazon SNS."""

from collections.abc import Collection, Mapping, Sequence

import structlog

from service.messages.mail.providers import sns_message
from service.messages.mail.providers.https_get import Fetch, FetchFailed
from service.messages.mail.providers.provider_event import ProviderEvent, WebhookRefusal
from service.messages.mail.providers.ses_events import ses_events
from service.messages.mail.providers.signing_certificates import SigningCertificates
from service.messages.mail.providers.sns_message import SnsMessage

log = structlog.get_logger()


class SesProvider:
    """Accepts messages of these topics (ARNs) only: anybody may have a topic and sign for it.

    ``fetch``: confirms subscriptions.
    """

    def __init__(self, topics: Collection[str], certificates: SigningCertificates, fetch: Fetch) -> None:
        self._topics = topics
        self._certificates = certificates
        self._fetch = fetch

    async def events(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        """What a message reports; the confirmation of a subscription is carried out, and reports nothing."""
        message = sns_message.read(body)
        if message.topic not in self._topics:
            raise WebhookRefusal(403, "This topic is none of SNS_TOPIC_ARNS")
        await self._verify(message)
        if message.type == sns_message.NOTIFICATION:
            return ses_events(message.message)
        if message.type == sns_message.SUBSCRIPTION:
            await self._confirm(message)
        else:
            log.warning("sns_unsubscribed", topic=message.topic)
        return ()

    async def _verify(self, message: SnsMessage) -> None:
        url = message.certificate_url
        if not sns_message.is_certificate_url(url, message.topic):
            raise WebhookRefusal(403, "The certificate of this SNS message is not at Amazon SNS")
        certificate = await self._certificates.get(url)
        sns_message.check_signature(message, certificate)

    async def _confirm(self, message: SnsMessage) -> None:
        url = message.subscribe_url
        if not sns_message.is_subscribe_url(url, message.topic):
            raise WebhookRefusal(403, "The address that confirms the subscription is not at Amazon SNS")
        try:
            await self._fetch(url)
        except FetchFailed as error:
            log.warning("sns_not_confirmed", topic=message.topic, error=str(error), open_to_confirm=url)
            raise WebhookRefusal(503, f"The subscription cannot be confirmed now: {error}") from None
        log.info("sns_confirmed", topic=message.topic)
