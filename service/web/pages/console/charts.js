// Draws the charts of this page anew, with a cursor that tells the values of a day: by pointer, or by arrow keys.
// Without it the server's drawing stays. Colours are those of the stylesheet, whatever scheme holds.
"use strict";

const HEIGHT = 220, GUTTER = 46, FOOT = 28, NARROW = 460;
const FONT = '12px -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

const colour = (name, share = 1) => {
  const found = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return share < 1 ? `color-mix(in srgb, ${found} ${100 * share}%, transparent)` : found;
};

// A line in two: what is final, and what is provisional with the points that lead there.
function split(values, final) {
  const beside = (n) => !(final[n - 1] ?? true) || !(final[n + 1] ?? true);
  return [
    values.map((value, n) => (final[n] ? value : null)),
    values.map((value, n) => (!final[n] || beside(n) ? value : null)),
  ];
}

// Values without neighbours, which no line reaches.
function alone(values) {
  const known = (n) => values[n] !== null && values[n] !== undefined;
  return [...values.keys()].filter((n) => known(n) && !known(n - 1) && !known(n + 1));
}

function figures(told) {
  const data = [told.names.map((_, n) => n)], series = [{}], bands = [];
  if (told.band) {
    data.push(told.band.high, told.band.low);
    series.push({ width: 0, points: { show: false } }, { width: 0, points: { show: false } });
    bands.push({ series: [1, 2], fill: () => colour("--c1", 0.13) });
  }
  for (const line of told.lines) {
    const [firm, soon] = split(line.values, told.final), tone = `--c${line.tone}`;
    const lone = { show: false, size: 6, fill: () => colour(tone), filter: (u, n) => alone(u.data[n]) };
    const bars = { width: 0, paths: uPlot.paths.bars({ size: [told.names.length > 60 ? 0.9 : 0.72, 200] }), points: { show: false } };
    const ways = told.bars
      ? [{ ...bars, fill: () => colour(tone) }, { ...bars, fill: () => colour(tone, 0.35) }]
      : [{ width: 2, points: lone }, { width: 2, points: lone, dash: [4, 4] }];
    data.push(firm, told.bars ? soon.map((value, n) => (told.final[n] ? null : value)) : soon);
    series.push(...ways.map((way) => ({ stroke: () => colour(tone), ...way })));
  }
  return { data, series, bands };
}

function marks(u, told) {
  const { ctx } = u, ratio = devicePixelRatio;
  ctx.save();
  ctx.lineWidth = 3 * ratio;
  ctx.strokeStyle = colour("--bad");
  ctx.fillStyle = colour("--card");
  for (const mark of told.marks) {
    ctx.beginPath();
    ctx.arc(u.valToPos(mark.index, "x", true), u.valToPos(mark.value, "y", true), 6 * ratio, 0, 2 * Math.PI);
    ctx.fill();
    ctx.stroke();
  }
  ctx.restore();
}

function line(parent, text, name) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  parent.append(made);
}

const value = (found) => (found === null || found === undefined ? "–" : number.format(found));

// What is known of a place, beside the cursor.
function tell(u, told, readout) {
  const n = u.cursor.idx;
  readout.hidden = n === null || n === undefined || u.cursor.left < 0;
  if (readout.hidden || readout.dataset.place === String(n)) return;
  readout.dataset.place = n;
  readout.replaceChildren();
  line(readout, told.names[n] + (told.final[n] ? "" : ", provisional"), "at");
  for (const one of told.lines) line(readout, `${one.name} ${value(one.values[n])}`, `c${one.tone}`);
  if (told.band && told.band.low[n] !== null)
    line(readout, `Expected ${value(Math.round(told.band.low[n]))} to ${value(Math.round(told.band.high[n]))}`, "band");
  for (const mark of told.marks) if (mark.index === n) line(readout, mark.text, "mark");
  const left = u.valToPos(n, "x"), wide = u.over.clientWidth, size = readout.offsetWidth;
  const beside = left > wide / 2 ? left - size - 12 : left + 12;
  readout.style.transform = `translate(${Math.max(0, Math.min(beside, wide - size))}px, 8px)`;
}

function keys(u, told, stage) {
  const last = told.names.length - 1;
  const steps = { ArrowLeft: (n) => n - 1, ArrowRight: (n) => n + 1, Home: () => 0, End: () => last };
  stage.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return u.setCursor({ left: -10, top: -10 });
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const n = Math.max(0, Math.min(last, step(u.cursor.idx ?? last + 1)));
    u.setCursor({ left: u.valToPos(n, "x"), top: 1 });
  });
  stage.addEventListener("blur", () => u.setCursor({ left: -10, top: -10 }));
}

function draw(holder) {
  const told = JSON.parse(holder.dataset.plot), server = holder.querySelector(".plot");
  const stage = document.createElement("div"), readout = document.createElement("div");
  const { data, series, bands } = figures(told), narrow = () => holder.clientWidth < NARROW;
  stage.className = "live";
  stage.tabIndex = 0;
  stage.setAttribute("role", "group");
  stage.setAttribute("aria-label", `${server.querySelector(".chart").getAttribute("aria-label")} Arrow keys tell each day.`);
  readout.className = "readout";
  readout.setAttribute("aria-live", "polite");
  readout.hidden = true;
  const axis = { font: FONT, stroke: () => colour("--soft"), ticks: { show: false } };
  const u = new uPlot(
    {
      width: holder.clientWidth,
      height: HEIGHT,
      padding: [12, 16, 0, 0],
      legend: { show: false },
      scales: { x: { time: false, range: [-0.5, told.names.length - 0.5] }, y: { range: told.scale } },
      axes: [
        {
          ...axis, size: FOOT, gap: 8, grid: { show: false },
          splits: () => told.ticks.map((tick) => tick.index),
          values: () => told.ticks.map((tick) => (tick.minor && narrow() ? "" : tick.text)),
        },
        {
          ...axis, size: GUTTER, gap: 8, grid: { stroke: () => colour("--line"), width: 1 },
          splits: () => told.steps.map((step) => step.value),
          values: () => told.steps.map((step) => step.text),
        },
      ],
      series,
      bands,
      cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { show: false } },
      hooks: { draw: [() => marks(u, told)], setCursor: [() => tell(u, told, readout)] },
    },
    data,
    stage,
  );
  u.over.append(readout);
  server.hidden = true;
  holder.append(stage);
  keys(u, told, stage);
  new ResizeObserver(() => u.setSize({ width: holder.clientWidth, height: HEIGHT })).observe(holder);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => u.redraw());
}

document.querySelectorAll("[data-plot]").forEach(draw);
