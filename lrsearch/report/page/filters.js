// What is shown: one choice of optimizer, states and schedules for all charts and the table; and each chart's scale.

const filters = {
  optimizer: "",
  hidden: { state: new Set(), family: new Set() },
  scales: {},
  along: "epoch",

  start(changed) {
    const boxes = [...document.querySelectorAll("[data-state], [data-family]")];
    for (const box of boxes) box.addEventListener("change", () => { filters.read(boxes); changed(); });
    const optimizer = document.getElementById("optimizer");
    optimizer.addEventListener("change", () => { filters.read(boxes); changed(); });
    document.getElementById("show-all").addEventListener("click", () => {
      for (const box of boxes) box.checked = true;
      optimizer.value = "";
      filters.read(boxes);
      changed();
    });
    for (const choice of document.querySelectorAll("[data-scale]")) {
      filters.scales[choice.dataset.scale] = choice.value;
      choice.addEventListener("change", () => {
        filters.scales[choice.dataset.scale] = choice.value;
        charts.keys(choice.dataset.scale).forEach(charts.draw);
      });
    }
    document.getElementById("along").addEventListener("change", (event) => {
      filters.along = event.target.value;
      charts.draw("schedule");
    });
    for (const button of document.querySelectorAll("[data-reset]"))
      button.addEventListener("click", () => charts.forgetZoom(button.dataset.reset));
    // What a browser has kept of an earlier look.
    filters.read(boxes);
    filters.along = document.getElementById("along").value;
  },

  read(boxes) {
    filters.optimizer = document.getElementById("optimizer").value;
    for (const kind of ["state", "family"])
      filters.hidden[kind] = new Set(boxes.filter((box) => box.dataset[kind] && !box.checked).map((box) => box.dataset[kind]));
    for (const panel of document.querySelectorAll("[data-panel]"))
      panel.hidden = filters.optimizer !== "" && panel.dataset.panel !== filters.optimizer;
  },

  scaleOf(key) { return filters.scales[key.startsWith("lr-") ? "lr-" : key]; },

  shows(meta) {
    if (!meta || !meta.state || meta.kind === "schedule") return true;
    return filters.passes(meta.state, meta.family, meta.optimizer);
  },

  passes(state, family, optimizer) {
    return !filters.hidden.state.has(state) && !filters.hidden.family.has(family)
      && (filters.optimizer === "" || filters.optimizer === optimizer);
  },

  // How many there are of each state; a state that no trial has needs no box.
  counted(counts) {
    for (const [state, n] of Object.entries(counts)) {
      document.querySelector(`[data-count="${state}"]`).textContent = n;
      document.querySelector(`[data-state-chip="${state}"]`).hidden = n === 0;
    }
  },
};
