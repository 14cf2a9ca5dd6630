"use strict";
// Draws a table[data-chart] by uPlot in place of the drawing beside it. Its rows have data-x (seconds since the epoch, or
// a number), its cells data-y; its headings data-tone (a colour), data-scale, data-factor (of the unit), data-unit, data-points (no line)
// and data-dash.
(() => {
  const drawn = new Map();
  const colour = tone => getComputedStyle(document.documentElement).getPropertyValue("--" + tone).trim();
  const said = (value, unit) => (value === null || value === undefined ? "" : (value >= 100 || value % 1 === 0 ? Math.round(value) : value.toFixed(2)) + " " + unit);
  const series = head => ({
    label: head.textContent, scale: head.dataset.scale, stroke: () => colour(head.dataset.tone), width: 1.5, dash: head.dataset.dash ? [5, 4] : undefined,
    points: { show: !!head.dataset.points, size: 6, fill: () => colour(head.dataset.tone) }, paths: head.dataset.points ? () => null : undefined, fill: head.dataset.fill ? () => colour(head.dataset.tone) + "1f" : undefined, value: (_, v) => said(v, head.dataset.unit),
  });
  const axis = (more = {}) => ({ stroke: () => colour("muted"), grid: { stroke: () => colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif", ...more });
  const options = (heads, box) => {
    const scales = [...new Set(heads.map(h => h.dataset.scale))];
    return {
      width: box.clientWidth, height: 200, cursor: { y: false }, legend: { show: false },
      scales: { x: { time: true }, ...Object.fromEntries(scales.map(s => [s, { range: (_, _low, high) => [0, (high || 1) * 1.05] }])) },
      axes: [axis({ space: 80, values: (_, at) => at.map((s, n) => {
        const day = i => new Date(at[i] * 1000).toDateString().slice(4, 10);
        if (at[at.length - 1] - at[0] > 172800 && (!n || day(n) !== day(n - 1))) return day(n);
        return new Date(s * 1000).toTimeString().slice(0, at[1] - at[0] < 60 ? 8 : 5);
      }) }), ...scales.map((s, n) => axis({ scale: s, side: n ? 1 : 3, size: 44, grid: { show: !n, stroke: () => colour("line") } }))],
      series: [{ value: (_, s) => (s ? new Date(s * 1000).toTimeString().slice(0, 8) : "") }, ...heads.map(series)],
    };
  };
  const draw = table => {
    const key = table.dataset.chart, box = table.closest("section").querySelector(".chart");
    const heads = [...table.tHead.rows[0].cells].slice(1), rows = [...table.tBodies[0].rows];
    const number = (cell, head) => (cell.dataset.y ? cell.dataset.y / (head.dataset.factor || 1) : null);
    const data = [rows.map(r => +r.dataset.x), ...heads.map((head, n) => rows.map(r => number(r.cells[n + 1], head)))];
    table.dataset.drawn = 1;
    if (!box || !box.clientWidth) return;
    let chart = drawn.get(key);
    if (chart && chart.series.length === data.length) chart.setData(data);
    else {
      chart = new uPlot(options(heads, box), data, document.createElement("div"));
      drawn.set(key, chart);
      new ResizeObserver(() => { const on = chart.root.parentNode; if (on && on.clientWidth) chart.setSize({ width: on.clientWidth, height: 200 }); }).observe(box.closest("section").parentNode);
    }
    box.replaceChildren(chart.root);
  };
  const all = () => document.querySelectorAll("table[data-chart]:not([data-drawn])").forEach(draw);
  all();
  new MutationObserver(all).observe(document.querySelector("main"), { childList: true, subtree: true });
  const again = () => drawn.forEach(chart => chart.redraw());
  new MutationObserver(again).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
})();
