// The table of all trials: sorted by a click on a heading, a page at a time.

const table = {
  trials: { columns: [], rows: [], winner: null, digits: 3 },
  by: 0,
  down: false,
  page: 0,

  start() {
    document.getElementById("rows").addEventListener("change", () => { table.page = 0; table.draw(); });
    document.getElementById("back").addEventListener("click", () => { table.page -= 1; table.draw(); });
    document.getElementById("forward").addEventListener("click", () => { table.page += 1; table.draw(); });
    const row = document.createElement("tr");
    table.trials.columns.forEach((column, i) => {
      const th = document.createElement("th"), button = document.createElement("button");
      th.scope = "col";
      button.type = "button";
      button.textContent = column.name;
      button.dataset.sort = column.name;
      button.addEventListener("click", () => {
        // Scores: the best first.
        table.down = table.by === i ? !table.down : column.kind === "share";
        table.by = i;
        table.page = 0;
        table.draw();
      });
      if (column.kind !== "text") th.className = "right";
      th.append(button);
      row.append(th);
    });
    document.querySelector("#table thead").replaceChildren(row);
  },

  sorted() {
    const i = table.by, sign = table.down ? -1 : 1;
    // State, family and optimizer by their place in COLUMNS.
    const rows = table.trials.rows.filter((row) => filters.passes(row[1] === "interrupted" ? "running" : row[1], row[7], row[5]));
    return rows.sort((a, b) => {
      const [x, y] = [a[i], b[i]];
      if (x === y) return a[0] - b[0];
      // What has no value comes last, whichever way.
      if (x === null) return 1;
      if (y === null) return -1;
      return sign * (x < y ? -1 : 1);
    });
  },

  draw() {
    const rows = table.sorted(), size = Number(document.getElementById("rows").value);
    const pages = Math.max(1, Math.ceil(rows.length / size));
    table.page = Math.min(Math.max(0, table.page), pages - 1);
    const first = table.page * size, shown = rows.slice(first, first + size);
    document.querySelectorAll("#table th").forEach((th, i) => {
      th.setAttribute("aria-sort", i !== table.by ? "none" : table.down ? "descending" : "ascending");
    });
    document.querySelector("#table tbody").replaceChildren(...shown.map(table.row));
    const total = table.trials.rows.length, all = rows.length === total ? `${total}` : `${rows.length} of ${total}`;
    document.getElementById("trials-shown").textContent =
      rows.length ? `${first + 1} to ${first + shown.length} of ${all} trials. A star marks the winner.` : "No trial to show.";
    // Not disabled: that would take the focus away from whoever pressed it last.
    document.getElementById("back").setAttribute("aria-disabled", table.page === 0);
    document.getElementById("forward").setAttribute("aria-disabled", table.page === pages - 1);
  },

  row(values) {
    const tr = document.createElement("tr");
    if (values[0] === table.trials.winner) tr.className = "winner";
    values.forEach((value, i) => {
      const kind = table.trials.columns[i].kind, cell = document.createElement(i === 0 ? "th" : "td");
      if (i === 0) cell.scope = "row";
      if (kind !== "text") cell.className = "right";
      if (i === values.length - 1) cell.className = "long";
      cell.textContent = (i === 0 && values[0] === table.trials.winner ? "\u2605 " : "") + table.shown(value, kind);
      tr.append(cell);
    });
    return tr;
  },

  shown(value, kind) {
    if (value === null) return "\u2013";
    if (kind === "share") return value.toFixed(table.trials.digits);
    if (kind === "number") return value === 0 || (Math.abs(value) >= 1e-4 && Math.abs(value) < 1e6) ? `${Number(value.toPrecision(3))}` : value.toExponential(2);
    return `${value}`.replaceAll("_", " ");
  },
};
