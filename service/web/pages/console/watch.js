// Says so while what a page watches cannot be reached: else it would look calm although nobody knows.
"use strict";

const tell = (away) => document.querySelectorAll(".away").forEach((one) => { one.hidden = !away; });

document.addEventListener("htmx:afterRequest", (event) => tell(!event.detail.successful));
document.addEventListener("htmx:sseError", () => tell(true));
document.addEventListener("htmx:sseOpen", () => tell(false));
