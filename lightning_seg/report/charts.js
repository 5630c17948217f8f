// Charts in SVG, drawn anew at the width they have.
function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw * 0.999);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

function chart(label, draw) {
  const box = el("div", { class: "chart" });
  const paint = () => {
    const width = Math.max(260, box.clientWidth || 800);
    box.replaceChildren(...draw(width, Math.round(Math.min(380, 160 + width / 4)), label));
  };
  let before = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - before) > 1) { before = entry.contentRect.width; paint(); }
  }).observe(box);
  redrawn.push(paint);
  return box;
}

// Axes around points; gives the picture and the scales. `log` is of y.
function frame({ width, height, label, xs, ys, xName, xText = short, yText = short, yName, log = false, margin = 0 }) {
  const left = 58, right = 14, top = 26, bottom = 42;
  const map = log ? Math.log10 : (value) => value;
  let [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  let [y0, y1] = [map(Math.min(...ys)), map(Math.max(...ys))];
  if (x0 === x1) [x0, x1] = [x0 - 0.5, x1 + 0.5];
  if (y0 === y1) [y0, y1] = [y0 - 0.05 * (Math.abs(y0) || 1), y1 + 0.05 * (Math.abs(y1) || 1)];
  [x0, x1] = [x0 - margin * (x1 - x0), x1 + margin * (x1 - x0)];
  const room = 0.04 * (y1 - y0);
  [y0, y1] = [y0 - room, y1 + room];
  const x = (value) => left + ((value - x0) / (x1 - x0)) * (width - left - right);
  const y = (value) => height - bottom - ((map(value) - y0) / (y1 - y0)) * (height - top - bottom);
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const tick of ticks(y0, y1, 5)) {
    const value = log ? 10 ** tick : tick;
    picture.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, yText(value)));
  }
  for (const tick of ticks(x0, x1, Math.max(2, width / 110))) {
    picture.append(svg("text", { x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, xText(tick)));
  }
  picture.append(svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xName));
  picture.append(svg("text", { x: 4, y: 13 }, yName));
  return { picture, x, y };
}

const path = (points, x, y) => points.map(([at, value], index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
const nothing = (text) => [el("p", { class: "note" }, text)];

// Values of a group's runs by x; of several runs their mean, least and greatest, where all that go so far have one.
function ofGroup(group, metric, along) {
  const runs = DATA.groups[group].runs.map((run) => DATA.runs[run].curves).filter((curves) => curves[metric]);
  const values = new Map();
  for (const curves of runs) {
    curves[along].forEach((at, row) => {
      const value = curves[metric][row];
      if (value != null) values.set(at, [...(values.get(at) ?? []), value]);
    });
  }
  const most = Math.max(0, ...[...values.values()].map((list) => list.length));
  return [...values].filter(([, list]) => list.length === most).sort((a, b) => a[0] - b[0])
    .map(([at, list]) => [at, list.reduce((a, b) => a + b) / list.length, Math.min(...list), Math.max(...list)]);
}

function ofRuns(group, metric, along) {
  return DATA.groups[group].runs.map((run) => [run, DATA.runs[run].curves]).filter(([, curves]) => curves[metric])
    .map(([run, curves]) => [run, curves[along].map((at, row) => [at, curves[metric][row]]).filter(([, value]) => value != null)]);
}

const isScore = (metric) => /\/(iou|dice|accuracy)(\/|$)/.test(metric) && !metric.startsWith("train/loss");

function curveChart(width, height, { metric, along, each, log }) {
  const drawn = shown().flatMap((group) => each
    ? ofRuns(group, metric, along).map(([run, points]) => ({ group, points, name: `${DATA.groups[group].label}, seed=${DATA.runs[run].seed}` }))
    : [{ group, points: ofGroup(group, metric, along), name: DATA.groups[group].label }]).filter(({ points }) => points.length);
  const usable = (value) => !log || value > 0;
  for (const series of drawn) series.points = series.points.filter((point) => point.slice(1).every(usable));
  const points = drawn.flatMap((series) => series.points);
  if (!points.length) return nothing("No run that is shown has this curve.");
  const scale = isScore(metric) && !log ? (value) => percent(value, 1) : short;
  const extremes = points.flatMap((point) => point.slice(1));
  const { picture, x, y } = frame({
    width, height, label: `${metric} by ${along}`, xs: points.map(([at]) => at), ys: extremes,
    xName: along === "epoch" ? "epoch" : "training step", yName: scale === short ? metric : `${metric}, %`, yText: scale, xText: (value) => (Number.isInteger(value) ? String(value) : ""), log,
  });
  for (const { group, points } of drawn) {
    const { stroke } = look(group);
    if (!each && drawn.length <= 10 && points.some(([, , low, high]) => high > low)) {
      const outline = [...points.map(([at, , low]) => [at, low]), ...points.toReversed().map(([at, , , high]) => [at, high])];
      picture.append(svg("path", { "data-group": group, d: `${path(outline, x, y)}Z`, style: `fill: ${stroke}; fill-opacity: .13` }));
    }
  }
  for (const { group, points, name } of drawn) {
    const { stroke, dash } = look(group);
    const style = `stroke: ${stroke}; fill: none; stroke-linejoin: round`;
    picture.append(svg("path", { class: "curve", "data-group": group, d: path(points, x, y), "stroke-width": each ? 1.5 : 2.2, "stroke-dasharray": dash, style },
      svg("title", {}, name)));
    if (points.length === 1) picture.append(svg("circle", { "data-group": group, cx: x(points[0][0]), cy: y(points[0][1]), r: 3, style: `fill: ${stroke}` }));
  }
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const [px, py] = [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
    let nearest = { distance: 900 };
    for (const series of drawn) for (const [at, value] of series.points) {
      const distance = (x(at) - px) ** 2 + (y(value) - py) ** 2;
      if (distance < nearest.distance) nearest = { distance, series, at, value };
    }
    emphasize(nearest.series ? nearest.series.group : null);
    tip(event, nearest.series && `${nearest.series.name}\n${along} ${nearest.at}: ${scale(nearest.value)}${scale === short ? "" : " %"}`);
  });
  picture.addEventListener("pointerleave", (event) => { emphasize(null); tip(event, ""); });
  return [picture];
}

function usageChart(width, height, resource) {
  const [name, text] = USAGE[resource];
  const points = shown().map((group) => ({ group, at: DATA.groups[group].usage[resource], score: DATA.groups[group].scores[MAIN.name] }))
    .filter(({ at, score }) => at != null && score);
  if (!points.length) return nothing("No run that is shown has both this resource and a score.");
  const low = (score) => score.mean - (score.deviation ?? 0);
  const high = (score) => score.mean + (score.deviation ?? 0);
  const { picture, x, y } = frame({
    width, height, label: `test ${MAIN.label} by ${name.toLowerCase()}`, xs: points.map(({ at }) => at),
    ys: points.flatMap(({ score }) => [low(score), high(score)]), xName: name.toLowerCase(), xText: text, yName: `test ${MAIN.title}`, yText: (value) => mainText(value, 1), margin: 0.06,
  });
  for (const { group, at, score } of points) {
    const { stroke } = look(group);
    const said = `${DATA.groups[group].label}\n${MAIN.label} ${mainText(score.mean)}${mainUnit}${score.deviation == null ? "" : ` ± ${mainText(score.deviation)}`}, ${text(at)}`;
    picture.append(svg("g", {
      "data-group": group, class: "point",
      onpointermove: (event) => { emphasize(group); tip(event, said); }, onpointerleave: (event) => { emphasize(null); tip(event, ""); },
    },
    svg("line", { x1: x(at), x2: x(at), y1: y(low(score)), y2: y(high(score)), "stroke-width": 2, style: `stroke: ${stroke}` }),
    svg("circle", { cx: x(at), cy: y(score.mean), r: 11, style: "fill: transparent" }),
    svg("circle", { cx: x(at), cy: y(score.mean), r: 6, style: `fill: ${stroke}` }),
    svg("text", { class: "name", x: x(at) + (x(at) > width - 40 ? -10 : 9), y: y(score.mean) + 4, "text-anchor": x(at) > width - 40 ? "end" : "start" }, String(group + 1)),
    svg("title", {}, said)));
  }
  return [picture];
}

function legend() {
  const list = el("ul", { class: "legend" });
  redrawn.push(() => {
    const parameter = colorParameter();
    const seen = new Map();
    for (const group of shown()) {
      const text = parameter ? `${parameter.label}=${parameter.values[group] ?? "–"}` : `${group + 1} ${DATA.groups[group].label}`;
      if (!seen.has(text)) seen.set(text, group);
    }
    list.replaceChildren(...[...seen].map(([text, group]) => el("li", {
      onmouseenter: () => parameter || emphasize(group), onmouseleave: () => emphasize(null),
    }, mark(group), text)));
  });
  return list;
}
