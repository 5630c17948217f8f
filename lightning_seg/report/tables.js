// A table whose headers sort it. A column: title, help, value(row) to sort by, cell(row) to show, kind for its style.
function sortableTable({ caption, columns, rows, sort = null, descending = true, className = "" }) {
  let by = sort;
  let down = descending;
  const body = el("tbody");
  const heads = columns().map((column, index) => {
    const button = el("button", { type: "button", title: column.help, onclick: () => order(index) }, column.title);
    return el("th", { scope: "col", class: column.kind ?? "" }, button);
  });
  function order(index) {
    down = by === index ? !down : columns()[index].kind === "number" || columns()[index].kind === "heat";
    by = index;
    draw();
  }
  function compare(a, b) {
    if (a == null || b == null) return (a == null) - (b == null);
    return (down ? -1 : 1) * byNumber(a, b);
  }
  function draw() {
    const all = columns();
    heads.forEach((head, index) => head.setAttribute("aria-sort", by !== index ? "none" : down ? "descending" : "ascending"));
    const kept = rows().filter((row) => state.visible.has(row.group));
    if (by != null) kept.sort((a, b) => compare(all[by].value(a), all[by].value(b)));
    body.replaceChildren(...kept.map((row) => el("tr", {
      "data-group": row.group,
      onmouseenter: () => emphasize(row.group),
      onmouseleave: () => emphasize(null),
    }, all.map((column, index) => {
      const shownAs = column.cell ? column.cell(row) : column.value(row) ?? "–";
      if (shownAs instanceof HTMLTableCellElement) return shownAs;
      return el(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: column.kind ?? "" }, shownAs);
    }))));
  }
  redrawn.push(draw);
  const table = el("table", { class: className }, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), body);
  return el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": caption }, table);
}

function parameterColumns() {
  return DATA.parameters.map((parameter) => {
    const others = Object.entries(parameter.withIt);
    const also = (group) => others.map(([key, values]) => `${key}=${values[group] ?? "–"}`).join("\n");
    return {
      title: others.length ? `${parameter.label} (+${others.length})` : parameter.label,
      help: others.length ? `${parameter.key}, and with it ${others.map(([key]) => key).join(", ")}` : parameter.key,
      kind: parameter.values.some((value) => (value ?? "").length > 40) ? "text" : "",
      value: (row) => parameter.values[row.group],
      cell: (row) => el("span", { title: also(row.group) || null }, parameter.values[row.group] ?? "–"),
    };
  });
}

const swatchColumn = {
  title: "Rank", help: `By mean ${MAIN.label} over all configurations`,
  value: (row) => row.group + 1,
  cell: (row) => el("th", { scope: "row" }, `${row.group + 1} `, mark(row.group)),
};

function scoreColumn({ name, title, share }) {
  const text = share ? percent : (value) => short(value, 4);
  return {
    title, kind: "number", help: `Of the test split: mean ± sample standard deviation over seeds${share ? ", in percent" : ""}`,
    value: (row) => DATA.groups[row.group].scores[name]?.mean,
    cell: (row) => {
      const score = DATA.groups[row.group].scores[name];
      if (!score) return "–";
      const range = `${score.n} ${score.n === 1 ? "seed" : "seeds"}, ${text(score.low)} to ${text(score.high)}`;
      const spread = score.deviation == null ? "" : ` ± ${text(score.deviation)}`;
      return el("span", { title: range }, text(score.mean), el("span", { class: "spread" }, spread));
    },
  };
}

function differenceColumns() {
  const of = (row) => DATA.differences[row.group][state.reference];
  const isReference = (row) => row.group === state.reference;
  return [
    {
      title: `Δ ${MAIN.label}`, kind: "number",
      help: `Mean of the differences to the reference over seeds that both have, with its ${100 * DATA.confidence} % confidence interval`,
      value: (row) => of(row)?.[1],
      cell: (row) => {
        if (isReference(row)) return "reference";
        if (!of(row)) return el("span", { title: "No finished run of the same seed" }, "–");
        const [n, mean, low, high] = of(row);
        const interval = low == null ? "no interval" : `${signed(low)} to ${signed(high)}`;
        return el("span", {}, signed(mean), el("small", { class: "spread" }, ` [${interval}], n=${n}`));
      },
    },
    {
      title: "Interval", value: (row) => of(row)?.[1],
      help: "The same, drawn; the line marks a difference of 0",
      cell: (row) => (isReference(row) || !of(row) ? "" : intervalMark(of(row))),
    },
  ];
}

function intervalMark([, mean, low, high]) {
  const all = shown().map((group) => DATA.differences[group][state.reference]).filter(Boolean);
  const reach = Math.max(...all.flatMap((one) => one.slice(1).map((value) => Math.abs(value ?? 0))), 1e-6);
  const x = (value) => 70 + (64 * value) / reach;
  const clear = low != null && (low > 0 || high < 0);
  const color = !clear ? "var(--soft)" : mean > 0 ? "var(--better)" : "var(--worse)";
  return svg("svg", { width: 140, height: 18, role: "img", "aria-label": clear ? "excludes zero" : "includes zero or unknown" },
    svg("line", { class: "zero", x1: 70, x2: 70, y1: 0, y2: 18 }),
    low == null ? null : svg("line", { x1: x(low), x2: x(high), y1: 9, y2: 9, "stroke-width": 3, style: `stroke: ${color}` }),
    svg("circle", { cx: x(mean), cy: 9, r: 4.5, style: `fill: ${low == null ? "none" : color}; stroke: ${color}` }));
}

const usageColumn = (name) => ({
  title: USAGE[name][0], kind: "number", help: "Mean over the runs",
  value: (row) => DATA.groups[row.group].usage[name],
  cell: (row) => USAGE[name][1](DATA.groups[row.group].usage[name]),
});

function heatCell(text, share, hue = "var(--heat)", title = null) {
  const percentage = 100 * Math.min(Math.max(share, 0), 1);
  return el("td", { class: "heat", title, style: `--hue: ${hue}; --share: ${percentage.toFixed(1)}%` }, text);
}
