// What is marked data-live is fetched anew every so many seconds, until the page that comes says that it is over.
"use strict";

async function again() {
  const shown = document.querySelector("[data-live]");
  if (!shown || !shown.dataset.live) return;
  const busy = document.hidden || shown.contains(document.activeElement) || String(getSelection());
  if (!busy) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-live]");
      if (!fresh) return location.reload();
      shown.replaceWith(fresh);
    } catch {
      // Not reachable now: the next turn asks again.
    }
  }
  later();
}

function later() {
  const shown = document.querySelector("[data-live]");
  const seconds = shown ? Number(shown.dataset.live) : 0;
  if (seconds) setTimeout(again, 1000 * seconds);
}

later();
