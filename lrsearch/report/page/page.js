// The page: what stands in the data, drawn; and drawn again when the theme, the choice or the study changes.

const page = {
  start() {
    const data = JSON.parse(document.getElementById("data").textContent);
    page.fragments = data.fragments;
    charts.figures = data.figures;
    table.trials = data.trials;
    for (const [key, figure] of Object.entries(data.figures)) charts.drawn.set(key, JSON.stringify(figure));
    theme.start(() => charts.all());
    filters.start(() => { charts.all(); table.draw(); });
    filters.counted(data.states);
    table.start();
    table.draw();
    page.keys();
    document.addEventListener("click", page.copied);
    document.querySelectorAll("[data-scroll]").forEach(page.scrolls);
    const about = document.documentElement.dataset;
    charts.all(() => { performance.mark("first chart"); }).then(() => { performance.mark("all charts"); about.drawn = "all"; });
    page.print();
    if (data.live) live.start(data.live, page.apply);
  },

  // What is new in place of what was: open details stay open, the focus stays where it is.
  apply(data) {
    for (const [key, text] of Object.entries(data.fragments)) if (page.fragments[key] !== text) {
      page.fragments[key] = text;
      const place = document.querySelector(`[data-fragment="${key}"]`);
      if (!place) continue;
      const open = [...place.querySelectorAll("details[open]")].map((one) => one.id);
      const focus = place.contains(document.activeElement) ? document.activeElement.id : "";
      place.innerHTML = text;
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
    }
    const drawing = [];
    for (const [key, figure] of Object.entries(data.figures)) {
      const text = JSON.stringify(figure);
      if (charts.drawn.get(key) === text) continue;
      charts.drawn.set(key, text);
      charts.figures[key] = figure;
      drawing.push(charts.draw(key));
    }
    table.trials = data.trials;
    table.draw();
    filters.counted(data.states);
    page.keys();
    return Promise.all(drawing);
  },

  // Which line of the schedules is which trial.
  keys() {
    const figure = charts.figures.schedule, list = document.getElementById("schedule-keys");
    const traces = figure.empty ? [] : [...figure.data].sort((a, b) => a.meta.place - b.meta.place);
    list.replaceChildren(...traces.map((trace) => {
      const item = document.createElement("li"), drawing = "http://www.w3.org/2000/svg";
      const line = document.createElementNS(drawing, "svg"), stroke = document.createElementNS(drawing, "path");
      line.setAttribute("class", `dash place-${trace.meta.place}`);
      line.setAttribute("aria-hidden", "true");
      stroke.setAttribute("d", "M0 5H40");
      line.append(stroke);
      item.append(line, `trial ${trace.meta.number}, ${trace.meta.family.replaceAll("_", " ")}`);
      return item;
    }));
  },

  // What can be scrolled must be reached by the keyboard.
  scrolls(box) {
    const look = () => {
      const wide = box.scrollWidth > box.clientWidth + 1;
      if (wide) { box.tabIndex = 0; box.setAttribute("role", "region"); box.setAttribute("aria-label", "Chart, wider than the page"); }
      else { box.removeAttribute("tabindex"); box.removeAttribute("role"); box.removeAttribute("aria-label"); }
    };
    new ResizeObserver(look).observe(box);
    new ResizeObserver(look).observe(box.firstElementChild);
  },

  async copied(event) {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    try { await navigator.clipboard.writeText(source.textContent); } catch {
      // A page that is not from a server may be refused the clipboard, but not a selection.
      getSelection().selectAllChildren(source);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  },

  // At once, not one after the other: the browser prints when this returns.
  printed(width) {
    charts.paper = width;
    charts.keys("").forEach(charts.draw);
  },

  print() {
    let before = null;
    addEventListener("beforeprint", () => {
      before ??= document.documentElement.dataset.theme || "auto";
      theme.apply("light");
      page.printed(680);
    });
    addEventListener("afterprint", () => {
      theme.apply(before || "auto");
      before = null;
      page.printed(0);
    });
  },
};

page.start();
