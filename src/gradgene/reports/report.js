"use strict";
(function () {
  const byId = (id) => document.getElementById(id);
  const table = byId("gene-table"), body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  const state = { sort: -1, down: false, query: "", page: 0 };
  let data = null, shown = [];

  // The rows are parsed when first needed: twenty thousand genes must not delay the page.
  function load() {
    if (data === null) {
      data = JSON.parse(byId("gene-data").textContent);
      shown = data.rows;
    }
    return data;
  }

  // The same rules as gradgene.reports.numbers.number, so that a row looks the same drawn again.
  function text(value, kind) {
    if (value === null) return "–";
    if (kind === "count") return value.toLocaleString("en");
    if (kind !== "number") return value;
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size < 1e-4 || size >= 1e5) {
      return value.toExponential(2).replace(/\.?0+e/, "e").replace(/e([+-])(\d)$/, "e$10$2");
    }
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(3)));
  }

  function select() {
    const { rows, kinds } = load();
    const words = kinds.map((kind, i) => (kind === "text" ? i : -1)).filter((i) => i >= 0);
    const query = state.query.trim().toLowerCase();
    shown = query === "" ? rows.slice()
      : rows.filter((row) => words.some((i) => row[i] !== null && row[i].toLowerCase().includes(query)));
    if (state.sort >= 0) {
      const at = state.sort, sign = state.down ? -1 : 1;
      const compare = kinds[at] === "number" || kinds[at] === "count"
        ? (a, b) => a - b : (a, b) => (a < b ? -1 : a > b ? 1 : 0);
      // Empty cells stay last in both directions: they are neither large nor small.
      shown.sort((a, b) => (a[at] === null ? (b[at] === null ? 0 : 1)
        : b[at] === null ? -1 : sign * compare(a[at], b[at])));
    }
  }

  function draw() {
    const { kinds, page } = load();
    const pages = Math.max(1, Math.ceil(shown.length / page));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const from = state.page * page, rows = shown.slice(from, from + page);
    const drawn = document.createDocumentFragment();
    for (const row of rows) {
      const line = drawn.appendChild(document.createElement("tr"));
      row.forEach((value, i) => {
        const cell = line.appendChild(document.createElement("td"));
        const kind = kinds[i];
        cell.className = kind === "number" || kind === "count" ? "num" : kind;
        if (kind === "direction" && (value === "up" || value === "down")) cell.classList.add(value);
        // Only ever as text: a gene may be named like a tag.
        cell.textContent = text(value, kind);
      });
    }
    body.replaceChildren(drawn);
    table.parentElement.scrollTop = 0;
    status(from, rows.length, pages);
  }

  function status(from, count, pages) {
    const total = shown.length.toLocaleString("en");
    byId("gene-count").textContent = count === 0 ? "no gene matches"
      : `${(from + 1).toLocaleString("en")}–${(from + count).toLocaleString("en")} of ${total}`;
    byId("gene-back").disabled = state.page === 0;
    byId("gene-on").disabled = state.page >= pages - 1;
  }

  function sortBy(at) {
    // Numbers are first sorted downwards, ranks and words upwards: what one looks for comes first.
    const first = load().kinds[at] === "number";
    state.down = state.sort === at ? !state.down : first;
    state.sort = at;
    state.page = 0;
    heads.forEach((head, i) => {
      if (i === at) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    select();
    draw();
  }

  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(at));
    head.replaceChildren(button);
  });
  byId("gene-search").addEventListener("input", (event) => {
    state.query = event.target.value;
    state.page = 0;
    select();
    draw();
  });
  const turn = (by) => () => { load(); state.page += by; draw(); };
  byId("gene-back").addEventListener("click", turn(-1));
  byId("gene-on").addEventListener("click", turn(1));
  byId("gene-controls").hidden = false;
  load();
  status(0, body.rows.length, Math.ceil(shown.length / data.page));
})();
