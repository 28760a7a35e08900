// Shows a notice while the service cannot be reached: without it an outdated page would look current.
"use strict";

const showNotice = (away) => document.querySelectorAll(".away").forEach((notice) => { notice.hidden = !away; });

document.addEventListener("htmx:afterRequest", (event) => showNotice(!event.detail.successful));
document.addEventListener("htmx:sseError", () => showNotice(true));
document.addEventListener("htmx:sseOpen", () => showNotice(false));
