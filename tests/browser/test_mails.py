"""Every mail in a real browser: nothing serious for axe, no wider than its window, nothing from elsewhere."""

import pytest
from playwright.async_api import Browser

from service.messages.mail.sample_goals import RECIPIENT
from service.messages.mail.words import LANGUAGES
from tests.browser.given import faults
from tests.chromium import Scheme
from tests.messages.mail.cast import composer
from tests.samples import SAMPLES

pytestmark = pytest.mark.long(only=True)


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (800, "light")])
async def test_every_mail_can_be_read_by_everybody(browser: Browser, width: int, scheme: Scheme) -> None:
    made = composer()
    page = await browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    found = {}
    for sample in SAMPLES:
        for language in LANGUAGES:
            mail = made.render(
                sample.template,
                sample.facts,
                locale=language,
                name=RECIPIENT,
                links=made.links("Zx8QmN3vR5tY7uI9oP1aSd"),
            )
            await page.set_content(mail.html)
            found[sample.name, language] = await faults(page)
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide == width, (sample.name, language)

    assert {name: those for name, those in found.items() if those} == {}
    assert requests == []
