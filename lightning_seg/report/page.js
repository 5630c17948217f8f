// The sections of the page, from top to bottom.
const rows = () => DATA.groups.map((_, group) => ({ group }));
const counts = ["finished", "unfinished", "pruned", "diverged", "failed"].map((status) => [status, DATA.runs.filter((run) => run.status === status).length]);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const damaged = DATA.jobs.filter((job) => job.status === "damaged").length;
const lost = DATA.jobs.length - damaged;
document.getElementById("summary").textContent =
  `${plural(DATA.groups.length, "configuration")}; ${counts.filter(([, count]) => count).map(([status, count]) => `${count} ${status}`).join(", ")}`
  + (damaged ? `; ${plural(damaged, "damaged run")} left out` : "")
  + (lost ? `; ${plural(lost, "job")} left no run` : "") + ".";

function filters() {
  const tests = new Map();
  const output = el("output", { "aria-live": "polite" });
  const apply = () => {
    state.visible = new Set([...DATA.groups.keys()].filter((group) => [...tests.values()].every((passes) => passes(group))));
    output.textContent = `${state.visible.size} of ${plural(DATA.groups.length, "configuration")} shown`;
    redraw();
  };
  const fields = DATA.parameters.map((parameter) => {
    const values = valuesOf(parameter);
    const isRange = values.length > 8 && values.every((value) => value == null || Number.isFinite(Number(value)));
    return el("fieldset", { "data-parameter": parameter.key, title: parameter.key }, el("legend", {}, parameter.label),
      isRange ? rangeChoice(parameter, tests, apply) : valueChoice(parameter, values, tests, apply));
  });
  const colors = [["", "configuration"], ...DATA.parameters.filter((parameter) => valuesOf(parameter).length <= 32)
    .map((parameter) => [parameter.key, parameter.label])];
  const reset = el("button", { class: "plain", type: "button", onclick: () => {
    for (const input of document.querySelectorAll("#filters fieldset input")) {
      if (input.type === "checkbox") input.checked = true; else input.value = "";
      input.dispatchEvent(new Event("change"));
    }
  } }, "Show all");
  const content = DATA.parameters.length ? fields : [el("p", { class: "note" }, "These runs differ in nothing but their seed or fold.")];
  document.getElementById("filters").append(el("details", { open: innerWidth > 640 }, el("summary", {}, "Filter", output),
    el("div", { class: "choices" }, content),
    DATA.parameters.length ? el("div", { class: "controls" },
      select("Color by", colors, "", (value) => { state.colorBy = value; redraw(); }), reset) : null));
  return apply;
}

function valueChoice(parameter, values, tests, apply) {
  const wanted = new Set(values);
  tests.set(parameter.key, (group) => wanted.has(parameter.values[group]));
  return values.map((value) => el("label", {}, el("input", { type: "checkbox", checked: true, onchange: (event) => {
    if (event.target.checked) wanted.add(value); else wanted.delete(value);
    apply();
  } }), value ?? "– (has none)"));
}

function rangeChoice(parameter, tests, apply) {
  const bounds = { least: "", most: "" };
  tests.set(parameter.key, (group) => {
    const value = parameter.values[group];
    if (bounds.least === "" && bounds.most === "") return true;
    return value != null && (bounds.least === "" || Number(value) >= Number(bounds.least)) && (bounds.most === "" || Number(value) <= Number(bounds.most));
  });
  return Object.keys(bounds).map((bound) => el("label", {}, bound === "least" ? "from" : "to", el("input", {
    type: "number", step: "any", "aria-label": `${parameter.label} ${bound === "least" ? "from" : "to"}`,
    onchange: (event) => { bounds[bound] = event.target.value; apply(); },
  })));
}

function leaderboard() {
  const columns = () => [swatchColumn, scoreColumn(DATA.scores[0]), ...parameterColumns(),
    { title: "Runs", kind: "number", help: "Finished runs of all runs", value: (row) => DATA.groups[row.group].finished,
      cell: (row) => `${DATA.groups[row.group].finished} of ${DATA.groups[row.group].runs.length}` },
    ...differenceColumns(), ...DATA.scores.slice(1).map(scoreColumn),
    ...Object.keys(USAGE).map(usageColumn)];
  const options = DATA.groups.map((group, index) => [String(index), `${index + 1} ${group.label}`]);
  const confidence = `${100 * DATA.confidence} %`;
  const onlySeeds = DATA.groups.every((group) => (group.scores[MAIN.name]?.n ?? 0) < 2);
  section("leaderboard", "Leaderboard",
    "Scores of the test split. Runs that differ in their seed, or fold of the data, alone are one row: the mean over these ± the sample standard deviation. "
    + `Δ ${MAIN.label} is the mean of the differences to the reference over the n seeds that both have, in brackets its ${confidence} confidence interval by Student's t. `
    + "It takes the differences as normal and is not corrected for the number of rows, nor for the reference having been chosen as the best."
    + (onlySeeds ? " With one seed no interval exists." : ""),
    el("div", { class: "controls" }, select("Reference", options, "0", (value) => { state.reference = Number(value); redraw(); })),
    sortableTable({ caption: "Configurations, best first", columns, rows, sort: 0, descending: false }));
}

function curves() {
  const metrics = [...new Set(DATA.runs.flatMap((run) => Object.keys(run.curves)))].filter((name) => name !== "epoch" && name !== "step");
  if (!metrics.length) return;
  const first = ["val/iou", "val/loss", "train/loss"];
  metrics.sort((a, b) => (first.indexOf(a) + 1 || 9) - (first.indexOf(b) + 1 || 9) || a.localeCompare(b));
  const chosen = { metric: metrics[0], along: "epoch", each: false, log: false };
  const box = chart("Curves", (width, height) => curveChart(width, height, chosen));
  const tick = (name, text) => el("label", {}, el("input", { type: "checkbox", onchange: (event) => { chosen[name] = event.target.checked; redraw(); } }), text);
  section("curves", "Curves", "The mean over seeds; where at most ten are shown, in a band from the lowest to the highest. Point at a line to name it.",
    el("div", { class: "controls" },
      select("Show", metrics.map((name) => [name, name]), chosen.metric, (value) => { chosen.metric = value; redraw(); }),
      select("by", [["epoch", "epoch"], ["step", "training step"]], "epoch", (value) => { chosen.along = value; redraw(); }),
      tick("each", "each seed by itself"), tick("log", "logarithmic")),
    box, legend());
}

function classHeat() {
  if (!DATA.classes.length) return;
  let relative = false;
  const value = (row, index) => {
    const own = DATA.groups[row.group].classes[index];
    const other = DATA.groups[state.reference].classes[index];
    if (!relative) return own;
    return own == null || other == null ? null : own - other;
  };
  const columns = () => {
    const reach = Math.max(1e-6, ...shown().flatMap((group) => DATA.classes.map((_, index) => Math.abs(value({ group }, index) ?? 0))));
    return [swatchColumn, ...parameterColumns(), ...DATA.classes.map((name, index) => ({
      title: name, kind: "number", value: (row) => value(row, index),
      cell: (row) => {
        const number = value(row, index);
        if (number == null) return el("td", { class: "number", title: "No score" }, "–");
        if (!relative) return heatCell(percent(number, 1), number);
        return heatCell(signed(number), Math.abs(number) / reach, number < 0 ? "var(--worse)" : "var(--better)");
      },
    }))];
  };
  section("classes", "IoU of each class", "Of the test split, in percent, mean over seeds. A class that occurs neither in the target nor in the prediction has no score.",
    el("div", { class: "controls" }, el("label", {}, el("input", { type: "checkbox", onchange: (event) => { relative = event.target.checked; redraw(); } }),
      "difference to the reference of the leaderboard")),
    sortableTable({ caption: "IoU by class, %", columns, rows, sort: 0, descending: false }));
}

function usage() {
  const known = Object.keys(USAGE).filter((name) => DATA.groups.some((group) => group.usage[name] != null));
  if (!known.length) return;
  let resource = known[0];
  const memory = new Set(DATA.groups.flatMap((group) => group.memory));
  const kinds = [memory.has("cuda") ? "what torch had allocated on the GPU" : "", memory.has("resident") ? "all memory of the process on a CPU" : ""].filter(Boolean).join(", or ");
  section("usage", `Resource usage against ${MAIN.label}`,
    `Test ${MAIN.label}, mean ± deviation over seeds; the numbers are the ranks. A step is one training batch, including the wait for its data, without validation.${kinds ? ` Peak memory is ${kinds}.` : ""} Times compare only between runs on the same, equally busy machine.`,
    el("div", { class: "controls" }, select("Resource", known.map((name) => [name, USAGE[name][0]]), resource, (value) => { resource = value; redraw(); })),
    chart(`Resource usage against ${MAIN.label}`, (width, height) => usageChart(width, height, resource)));
}

function confusion() {
  if (!DATA.groups.some((group) => group.confusion)) return;
  let group = DATA.groups.findIndex((one) => one.confusion);
  let share = "target";
  const box = el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Confusion matrix" });
  const chooser = el("label", {}, "Configuration");
  const draw = () => {
    const offered = shown().filter((index) => DATA.groups[index].confusion);
    if (!offered.includes(group) && offered.length) [group] = offered;
    chooser.replaceChildren("Configuration", el("select", { "aria-label": "Configuration", onchange: (event) => { group = Number(event.target.value); draw(); } },
      offered.map((index) => el("option", { value: index, selected: index === group }, `${index + 1} ${DATA.groups[index].label}`))));
    box.replaceChildren(offered.length ? confusionTable(DATA.groups[group].confusion, share) : nothing("No configuration that is shown has one.")[0]);
  };
  redrawn.push(draw);
  section("confusion", "Confusion matrix", "Pixels of the test split, summed over the finished runs of a configuration. Void pixels are not counted.",
    el("div", { class: "controls" }, chooser, select("Share", [["target", "of the class's pixels (rows)"], ["prediction", "of what was predicted (columns)"], ["pixels", "numbers of pixels"]], share,
      (value) => { share = value; draw(); })), box);
}

function confusionTable({ task, classes, matrix, runs }, share) {
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const cell = (pixels, whole, total) => heatCell(share === "pixels" ? many(pixels) : whole ? percent(pixels / whole, 1) : "–",
    whole ? pixels / whole : 0, "var(--heat)", `${pixels.toLocaleString("en")} of ${whole.toLocaleString("en")} pixels`);
  const unit = share === "pixels" ? "pixels" : "%";
  const caption = el("caption", {}, `Rows are the target, columns the prediction; ${unit}; ${plural(runs, "run")}`);
  if (task === "multilabel") {
    const heads = ["class", "right, on", "missed", "false alarm", "right, off"];
    return el("table", {}, caption, el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, classes.map((name, index) => {
        const [[off, alarm], [missed, on]] = matrix[index];
        const wholes = share === "prediction" ? [on + alarm, missed + off, on + alarm, missed + off] : [on + missed, on + missed, alarm + off, alarm + off];
        return el("tr", {}, el("th", { scope: "row" }, name), [on, missed, alarm, off].map((pixels, place) => cell(pixels, wholes[place])));
      })));
  }
  const names = task === "binary" ? ["background", ...classes] : classes;
  const columnSums = names.map((_, column) => sum(matrix.map((row) => row[column])));
  const upright = names.length > 10 ? "upright" : "number";
  return el("table", {}, caption,
    el("thead", {}, el("tr", {}, el("td"), names.map((name) => el("th", { scope: "col", class: upright }, name)))),
    el("tbody", {}, matrix.map((row, index) => el("tr", {}, el("th", { scope: "row" }, names[index]),
      row.map((pixels, column) => cell(pixels, share === "prediction" ? columnSums[column] : sum(row)))))));
}

function details() {
  const rows = () => DATA.runs.filter((run) => run.details);
  if (!rows().length) return;
  const interval = (name) => (row) => {
    const one = row.details.intervals[name];
    return one ? `${percent(one.value)} (${percent(one.low)} to ${percent(one.high)})` : "–";
  };
  const of = (name) => (row) => row.details.intervals[name]?.value;
  const plain = (title, name, help, text = percent) => (DATA.runs.some((run) => run.details?.[name] != null)
    ? [{ title, kind: "number", help, value: (row) => row.details[name], cell: (row) => text(row.details[name]) }] : []);
  const reliability = (row) => {
    const at = ([x, y]) => `${(4 + 72 * x).toFixed(1)},${(76 - 72 * y).toFixed(1)}`;
    return svg("svg", { width: 80, height: 80, viewBox: "0 0 80 80", role: "img", "aria-label": "accuracy by confidence, from 0 to 1" },
      svg("polyline", { points: `${at([0, 0])} ${at([1, 1])}`, fill: "none", stroke: "currentColor", opacity: 0.3 }),
      svg("polyline", { points: row.details.calibration.map(at).join(" "), fill: "none", stroke: "currentColor", "stroke-width": 2 }));
  };
  const without = DATA.runs.some((run) => run.details?.intervals.iou_without_background);
  const columns = () => [
    { title: "Run", kind: "text", value: (row) => row.name, cell: (row) => el("th", { scope: "row", class: "text" }, row.name) },
    { title: "IoU, %", kind: "number", help: "With its 95 % interval", value: of("iou"), cell: interval("iou") },
    { title: "Dice, %", kind: "number", help: "With its 95 % interval", value: of("dice"), cell: interval("dice") },
    ...(without ? [{ title: "IoU without background, %", kind: "number", value: of("iou_without_background"), cell: interval("iou_without_background") }] : []),
    ...plain("Calibration error, %", "expected_calibration_error", "Expected calibration error, 15 bins"),
    ...plain("Boundary IoU, %", "boundary_iou", "Mean over classes"),
    ...plain("Surface Dice, %", "surface_dice", "Mean over classes"),
    ...plain("Best threshold", "best_threshold", "Of the highest Dice on these images", (value) => short(value)),
    { title: "Reliability", value: (row) => row.details.expected_calibration_error, cell: reliability },
    { title: "Worst images, IoU in %", kind: "text", value: (row) => row.details.worst.map(({ image, iou }) => `${image} ${percent(iou, 1)}`).join(", ") },
  ];
  section("details", "Test images one by one", "Intervals are by bootstrap over the test images, each run's alone; they do not hold what another seed would change.",
    sortableTable({ caption: "Evaluation of every run", columns, rows, sort: 1, descending: true }));
}

function pictures() {
  if (!DATA.samples.length) return;
  const seeds = [...new Set(DATA.runs.filter((_, run) => DATA.samples.some((sample) => sample.runs[run])).map((run) => run.seed))].sort(byNumber);
  let seed = "first";
  let errors = false;
  const box = el("div", { class: "scroll pictures", tabindex: 0, role: "region", "aria-label": "Validation images" });
  const picture = (sample, src, alt, kind = "") => el("img", { src, alt, class: kind, width: sample.size[0], height: sample.size[1], loading: "lazy" });
  const chosenRuns = () => shown().flatMap((group) => {
    const runs = DATA.groups[group].runs.filter((run) => DATA.samples.some((sample) => sample.runs[run]));
    return seed === "first" ? runs.slice(0, 1) : runs.filter((run) => seed === "all" || String(DATA.runs[run].seed) === seed);
  });
  const draw = () => {
    const runs = chosenRuns();
    const head = el("tr", {}, el("th", { scope: "col", class: "fixed" }, "image and target"),
      runs.map((run) => el("th", { scope: "col", "data-run": run }, mark(DATA.runs[run].group), ` ${DATA.runs[run].group + 1} ${DATA.groups[DATA.runs[run].group].label}, seed=${DATA.runs[run].seed}`)));
    box.replaceChildren(el("table", {}, el("thead", {}, head), el("tbody", {}, DATA.samples.map((sample) => el("tr", {},
      el("th", { scope: "row", class: "fixed", title: sample.name }, el("div", { class: "pair" },
        el("figure", {}, picture(sample, sample.image, `image ${sample.name}`)), el("figure", {}, picture(sample, sample.target, `target of ${sample.name}`, "labels")))),
      runs.map((run) => {
        const own = sample.runs[run];
        const alt = `${errors ? "errors" : "prediction"} for ${sample.name}, ${DATA.groups[DATA.runs[run].group].label}, seed ${DATA.runs[run].seed}`;
        if (!own) return el("td", {}, "–");
        return el("td", { title: sample.name }, el("figure", {}, errors
          ? [picture(sample, sample.image, "", "dim"), picture(sample, own[1], alt, "over labels")] : picture(sample, own[0], alt, "labels")));
      }))))));
  };
  redrawn.push(draw);
  const colors = [...DATA.colors.map(([name, [red, green, blue]]) => [name, `rgb(${red} ${green} ${blue})`]), ["void", "rgb(150 150 150)"], ["error", "rgb(230 30 40)"]];
  section("images", "Validation images", "The same images for every run, predicted by the weights that were tested. Larger images are shrunk.",
    el("div", { class: "controls" },
      select("Seed", [["first", "the first of each"], ...seeds.map((one) => [String(one), String(one)]), ["all", "all"]], seed, (value) => { seed = value; draw(); }),
      select("Show", [["labels", "predictions"], ["errors", "errors"]], "labels", (value) => { errors = value === "errors"; draw(); }),
      el("label", {}, "Size", el("input", { type: "range", min: 70, max: 480, value: 150, oninput: (event) => document.documentElement.style.setProperty("--cell", `${event.target.value}px`) }))),
    box, el("ul", { class: "legend" }, colors.map(([name, color]) => el("li", {}, el("span", { class: "swatch", style: `background: ${color}` }), name))));
}

function allRuns() {
  const monitors = [...new Set(DATA.runs.map((run) => run.monitor).filter(Boolean))].join(", ");
  const symbols = { finished: "✓", unfinished: "…", pruned: "✂", diverged: "∞", failed: "✗" };
  const status = (row) => el("span", { class: `status-${row.status}` }, `${symbols[row.status]} ${row.status}`);
  const columns = () => [
    { title: "Run", kind: "text", value: (row) => row.name, cell: (row) => el("th", { scope: "row", class: "text" }, row.name) },
    { title: "Status", value: (row) => row.status, cell: status },
    ...(DATA.runs.some((run) => run.error) ? [{ title: "Error", kind: "text", value: (row) => row.error }] : []),
    ...parameterColumns(),
    { title: "Seed", kind: "number", value: (row) => row.seed },
    { title: "Epochs", kind: "number", value: (row) => row.epochs, cell: (row) => (row.of == null || row.of < 0 ? String(row.epochs) : `${row.epochs} of ${row.of}`) },
    ...DATA.scores.map(({ name, title, share }) => ({ title, kind: "number", help: "Of the test split", value: (row) => row.scores[name], cell: (row) => (share ? percent(row.scores[name]) : short(row.scores[name], 4)) })),
    ...(DATA.runs.some((run) => run.tested) ? [
      { title: "Test images", kind: "number", help: "What the scores are of", value: (row) => row.tested?.[0] },
      { title: "Test pixels", kind: "number", help: "Without void ones", value: (row) => row.tested?.[1], cell: (row) => row.tested?.[1].toLocaleString("en") ?? "–" },
    ] : []),
    { title: `Best ${monitors}`, kind: "number", help: "The score that chose the epoch that was tested", value: (row) => row.best, cell: (row) => short(row.best, 4) },
    ...Object.entries(USAGE).map(([name, [title, text]]) => ({ title, kind: "number", value: (row) => row.usage[name], cell: (row) => text(row.usage[name]) })),
    { title: "Device", value: (row) => row.device },
  ];
  section("runs", "All runs", "Unfinished runs are still running or were stopped. Only finished ones have scores of the test split and enter a mean.",
    sortableTable({ caption: "Every run", columns, rows: () => DATA.runs, sort: 1, descending: false }),
    DATA.jobs.length ? el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Jobs and damaged runs" }, el("table", {},
      el("caption", {}, "Jobs of sweeps that ended before they had anything to keep, and runs whose files are damaged"),
      el("thead", {}, el("tr", {}, ["Job", "Status", "Error", "Choices"].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, DATA.jobs.map((job) => el("tr", {}, el("th", { scope: "row", class: "text" }, job.name),
        el("td", {}, status(job)), el("td", { class: "text" }, job.error), el("td", { class: "text" }, job.choices)))))) : null);
}

const applyFilters = filters();
for (const build of [leaderboard, curves, classHeat, usage, confusion, details, pictures, allRuns]) build();
applyFilters();
