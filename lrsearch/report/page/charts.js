// Charts: from the figures of the data to Plotly, in the scale that is chosen, with ticks that can be read.

const log10 = Math.log10;

const charts = {
  figures: {},
  drawn: new Map(),   // key -> the JSON that was drawn last
  zoom: new Map(),    // key -> counted up to forget a zoom
  paper: 0,           // width of the paper that is printed on, or 0

  async all(first) {
    for (const key of Object.keys(charts.figures)) {
      await charts.draw(key);
      if (first) { first(); first = null; }
      await new Promise((done) => setTimeout(done)); // the page stays answerable between two charts
    }
  },

  draw(key) {
    const place = document.querySelector(`[data-chart="${key}"]`), figure = charts.figures[key];
    if (!place || !figure) return Promise.resolve();
    place.setAttribute("aria-label", figure.said);
    if (figure.empty) {
      if (place.layout) Plotly.purge(place);
      place.textContent = figure.empty;
      place.classList.add("empty");
      return Promise.resolve();
    }
    if (place.classList.contains("empty")) { place.textContent = ""; place.classList.remove("empty"); }
    const { data, layout } = charts.built(key, figure);
    const before = place.layout;
    if (figure.views.wide) place.style.minWidth = `${figure.views.wide}px`;
    return Plotly.react(place, data, layout, { displayModeBar: false, responsive: true, doubleClick: "reset" }).then(() => {
      if (!before) place.on("plotly_relayout", (change) => charts.retick(key, place, change));
      charts.retick(key, place, null);
    });
  },

  built(key, figure) {
    const scale = filters.scaleOf(key), font = getComputedStyle(document.body).fontFamily;
    const data = theme.coloured(figure.data), layout = theme.coloured(figure.layout), c = theme.coloured({
      ink: "@ink", muted: "@muted", grid: "@grid", axis: "@axis", paper: "@paper" });
    Object.assign(layout, {
      autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      hovermode: "closest", font: { family: font, size: 13, color: c.muted },
      margin: key === "parallel" ? { l: 24, r: 56, t: 52, b: 12 } : { l: 60, r: 18, t: 28, b: 52 },
      hoverlabel: { bgcolor: c.paper, bordercolor: c.axis, font: { family: font, size: 13, color: c.ink }, align: "left" },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      uirevision: `${scale} ${filters.along} ${charts.zoom.get(key) || 0}`,
    });
    if (figure.views.bars || key === "cost") layout.height = 96 + 34 * (figure.views.bars || figure.data[0].y.length);
    if (charts.paper) layout.width = key.startsWith("lr-") ? charts.paper / 2 - 12 : charts.paper;
    if (layout.height) { layout.bargap = 0.25; layout.margin.t = 10; }
    for (const name of ["xaxis", "yaxis", "yaxis2"]) if (layout[name]) {
      layout[name] = { gridcolor: c.grid, linecolor: c.axis, tickcolor: c.axis, zeroline: false, automargin: true,
        ticklabelstandoff: 3, ...layout[name] };
      if (layout[name].title) Object.assign(layout[name].title, { standoff: 12, font: { size: 13, color: c.muted } });
    }
    for (const trace of data) trace.visible = filters.shows(trace.meta);
    charts.scaled(key, figure, scale, data, layout);
    return { data, layout };
  },

  // The scale that is chosen. Accuracies near 1 lie close together: by errors they are drawn at 1 - accuracy.
  scaled(key, figure, scale, data, layout) {
    const views = figure.views, y = layout.yaxis;
    if (key.startsWith("lr-")) {
      if (views.share && scale === "log") {
        const error = (a) => Math.max(1 - a, views.floor);
        for (const trace of data) if (trace.yaxis === "y") trace.y = trace.y.map(error);
        y.type = "log";
        if (views.scores) y.range = charts.range(views.scores.map(error).map(log10)).reverse();
        y.title.text += " (by errors)";
      } else {
        y.type = scale;
        if (views.scores) y.range = charts.range(scale === "log" ? views.scores.map(log10) : views.scores);
        if (views.down) y.range.reverse();
      }
    }
    if (key === "loss") y.type = scale;
    if (key === "schedule") {
      y.type = scale;
      if (scale === "log") delete y.rangemode;
      if (filters.along === "epoch") for (const trace of data) trace.x = trace.x.map((x) => x / trace.meta.steps_per_epoch);
      else { layout.xaxis.title.text = "update"; delete layout.xaxis.range; }
    }
    // A logarithm begins above zero, and the ends are known before the ticks are.
    if (y.type === "log" && !y.range) {
      let low = Infinity, high = -Infinity;
      for (const trace of data) for (const v of trace.y) if (v > 0) { if (v < low) low = v; if (v > high) high = v; }
      if (low <= high) y.range = charts.range([log10(low), log10(high)]);
    }
  },

  range(ends) {
    const low = Math.min(...ends), high = Math.max(...ends);
    const room = Math.max(0.06 * (high - low), high === low ? 0.05 : 0);
    return [low - room, high + room];
  },

  // Ticks of logarithmic axes at round numbers, few enough for their place; again after every zoom.
  retick(key, place, change) {
    if (change && !Object.keys(change).some((k) => k.includes("range"))) return;
    const wanted = {}, full = place._fullLayout;
    for (const name of ["xaxis", "yaxis"]) {
      const axis = full[name];
      if (!axis || axis.type !== "log") continue;
      const errors = key.startsWith("lr-") && name === "yaxis" && charts.figures[key].views.share;
      const [values, texts] = charts.ticks(axis.range, axis._length, name === "xaxis" ? 44 : 26, errors);
      if (JSON.stringify(axis.tickvals) !== JSON.stringify(values)) {
        wanted[`${name}.tickvals`] = values;
        wanted[`${name}.ticktext`] = texts;
        wanted[`${name}.tickmode`] = "array";
      }
    }
    if (Object.keys(wanted).length) Plotly.relayout(place, wanted);
  },

  ticks([from, to], pixels, apart, errors) {
    const low = Math.min(from, to), high = Math.max(from, to), most = Math.max(2, Math.floor(pixels / apart));
    const fine = [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9];
    const candidates = errors ? [[1], [1, 2, 5], [1, 2, 3, 5], fine] : [[1], [1, 3], [1, 2, 5], [1, 2, 3, 5, 7], fine];
    let values = [];
    for (const digits of candidates) {
      const found = [];
      for (let e = Math.floor(low); e <= Math.ceil(high); e++) for (const d of digits) {
        const v = d * 10 ** e;
        if (log10(v) >= low - 1e-9 && log10(v) <= high + 1e-9 && (!errors || v < 1)) found.push(v);
      }
      if (values.length && found.length > most) break;
      values = found;
    }
    while (values.length > most) values = values.filter((_, i) => i % 2 === 0);
    values = values.filter((v, i) => i === 0 || (log10(v) - log10(values[i - 1])) / (high - low) * pixels >= apart * 0.7);
    return [values, values.map(errors ? (v) => `${Number((1 - v).toPrecision(6))}` : charts.number)];
  },

  number(v) {
    if (v >= 1e-4 && v < 1e5) return `${Number(v.toPrecision(3))}`;
    const e = Math.floor(log10(v) + 1e-9), m = Number((v / 10 ** e).toPrecision(2));
    return `${m === 1 ? "" : `${m}·`}10<sup>${e}</sup>`.replace("-", "\u2212");
  },

  forgetZoom(prefix) {
    for (const key of charts.keys(prefix)) {
      charts.zoom.set(key, (charts.zoom.get(key) || 0) + 1);
      charts.draw(key);
    }
  },
  keys(prefix) { return Object.keys(charts.figures).filter((key) => key.startsWith(prefix)); },
};
