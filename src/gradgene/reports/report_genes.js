// The gene table: sorted, searched and paged from its island, never more than a page of rows at once.
(function () {
  const { byId, element, number } = Report;
  const table = byId("gene-table");
  if (table === null) return;
  const body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells);
  const keys = heads.map((head) => head.dataset.key);
  const state = { key: "rank", down: false, query: "", unflagged: false, page: 0 };
  let data = null, shown = [], haystack = null;

  // Parsed once.
  function load() {
    if (data === null) {
      data = Report.island("gene-data");
      shown = data.rows;
    }
    return data;
  }

  // Lower case once for all searches.
  function words() {
    if (haystack === null) {
      const { rows, kinds } = load();
      const texts = kinds.map((kind, i) => (kind === "text" ? i : -1)).filter((i) => i >= 0);
      haystack = rows.map((row) => texts.map((i) => row[i] ?? "").join("\n").toLowerCase());
    }
    return haystack;
  }

  function select() {
    const { rows, kinds } = load();
    const query = state.query.trim().toLowerCase(), flags = keys.indexOf("flags");
    const texts = query === "" ? null : words();
    shown = rows.filter((row, i) => (texts === null || texts[i].includes(query))
      && !(state.unflagged && row[flags] !== null));
    const at = keys.indexOf(state.key);
    if (at < 0) return;
    const sign = state.down ? -1 : 1;
    const compare = kinds[at] === "number" || kinds[at] === "count"
      ? (a, b) => a - b : (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    // Empty cells stay last in both directions: they are neither large nor small.
    shown.sort((a, b) => (a[at] === null ? (b[at] === null ? 0 : 1)
      : b[at] === null ? -1 : sign * compare(a[at], b[at])));
  }

  // The score as a bar from 0 with its interval; the numbers are in the cells beside it.
  function bar(row) {
    const [low, high] = data.span, place = (x) => (100 * (x - low)) / (high - low);
    const drawn = element("span", { class: "bar", "aria-hidden": "true" });
    const piece = (name, a, b) => {
      const made = drawn.appendChild(document.createElement(name));
      made.style.left = `${Math.min(place(a), place(b))}%`;
      made.style.width = `${Math.abs(place(b) - place(a))}%`;
    };
    const value = (key) => (keys.includes(key) ? row[keys.indexOf(key)] : null);
    piece("i", 0, value("score"));
    if (value("ci_low") !== null) piece("b", value("ci_low"), value("ci_high"));
    return drawn;
  }

  function cellOf(row, i) {
    const kind = data.kinds[i], value = row[i], cell = document.createElement("td");
    cell.className = kind === "number" || kind === "count" ? "num" : kind;
    if (kind === "direction" && (value === "up" || value === "down")) cell.classList.add(value);
    if (keys[i] === "gene") {
      cell.classList.add("gene");
      cell.append(Report.geneLink(value, keys.includes("ensembl_id") ? row[keys.indexOf("ensembl_id")] : null));
    } else {
      cell.textContent = kind === "number" || kind === "count" ? number(value, kind === "count")
        : value ?? "–";
    }
    if (keys[i] === "score" && data.span !== null && value !== null) {
      cell.classList.add("drawn");
      cell.prepend(bar(row));
    }
    return cell;
  }

  function draw() {
    const { page } = load(), pages = Math.max(1, Math.ceil(shown.length / page));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const from = state.page * page, rows = shown.slice(from, from + page);
    body.replaceChildren(...rows.map((row) => {
      const line = document.createElement("tr");
      line.append(...row.map((_, i) => cellOf(row, i)));
      return line;
    }));
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

  function mark() {
    for (const head of heads) {
      if (head.dataset.key === state.key) {
        head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      } else head.removeAttribute("aria-sort");
    }
  }

  function redraw(change) {
    Object.assign(state, { page: 0 }, change);
    select();
    draw();
  }

  heads.forEach((head, at) => {
    const button = element("button", { type: "button" }, ...head.childNodes);
    button.addEventListener("click", () => {
      // Numbers are first sorted downwards, ranks and words upwards: what one looks for comes first.
      const first = load().kinds[at] === "number", key = head.dataset.key;
      redraw({ key, down: state.key === key ? !state.down : first });
      mark();
    });
    head.replaceChildren(button);
  });
  byId("gene-search").addEventListener("input", (event) => redraw({ query: event.target.value }));
  byId("gene-unflagged")?.addEventListener("change", (event) => {
    redraw({ unflagged: event.target.checked });
  });
  const turn = (by) => () => { load(); state.page += by; draw(); };
  byId("gene-back").addEventListener("click", turn(-1));
  byId("gene-on").addEventListener("click", turn(1));
  byId("gene-controls").hidden = false;
  mark();
  load();
  status(0, body.rows.length, Math.ceil(shown.length / data.page));
})();
