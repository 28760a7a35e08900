// Gives RapiDoc the colours of the other pages, light or dark as the browser prefers.
const page = document.querySelector("rapi-doc");
const dark = matchMedia("(prefers-color-scheme: dark)");

function paint() {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  page.setAttribute("theme", dark.matches ? "dark" : "light");
  page.setAttribute("bg-color", colour("--card"));
  page.setAttribute("text-color", colour("--text"));
  page.setAttribute("primary-color", colour("--accent"));
}

dark.addEventListener("change", paint);
paint();
