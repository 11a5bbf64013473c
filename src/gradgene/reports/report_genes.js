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

  const valueOf = (row, key) => (keys.includes(key) ? row[keys.indexOf(key)] : null);

  // One row to copy: filling copies is many times faster than making every cell anew.
  let pattern = null;
  function blank() {
    if (pattern === null) {
      pattern = element("tr", {}, ...keys.map((key, i) => {
        const kind = data.kinds[i], numeric = kind === "number" || kind === "count";
        const cell = element("td", { class: numeric ? "num" : kind }, "");
        if (key === "gene") {
          cell.classList.add("gene");
          cell.replaceChildren(element("a", { rel: "noopener noreferrer" }));
        } else if (key === "score" && data.span !== null) {
          // A bar from 0 with the interval as a line; the numbers are in the cells beside it.
          cell.classList.add("drawn");
          const bar = element("span", { class: "bar", "aria-hidden": "true" });
          bar.append(element("i"), element("b"));
          cell.replaceChildren(bar, "");
        }
        return cell;
      }));
    }
    return pattern.cloneNode(true);
  }

  function place(piece, a, b) {
    if (a === null || b === null) return piece.remove();
    const [low, high] = data.span, share = 100 / (high - low);
    piece.style.cssText = `left:${((Math.min(a, b) - low) * share).toFixed(3)}%;`
      + `width:${(Math.abs(b - a) * share).toFixed(3)}%`;
  }

  function lineOf(row) {
    const line = blank(), cells = line.cells;
    for (let i = 0; i < keys.length; i += 1) {
      const cell = cells[i], value = row[i], kind = data.kinds[i];
      const text = kind === "number" || kind === "count" ? number(value, kind === "count") : value ?? "–";
      if (keys[i] === "gene") {
        cell.firstChild.href = Report.genePage(value, valueOf(row, "ensembl_id"));
        cell.firstChild.textContent = text;
      } else if (cell.firstElementChild !== null) {
        const [score, interval] = cell.firstElementChild.children;
        place(score, value === null ? null : 0, value);
        place(interval, valueOf(row, "ci_low"), valueOf(row, "ci_high"));
        cell.lastChild.data = text;
      } else {
        // Only ever as text: a gene may be named like a tag.
        cell.textContent = text;
        if (kind === "direction" && (value === "up" || value === "down")) cell.classList.add(value);
      }
    }
    return line;
  }

  function draw() {
    const { page } = load(), pages = Math.max(1, Math.ceil(shown.length / page));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const from = state.page * page, rows = shown.slice(from, from + page);
    table.parentElement.scrollTop = 0; // before the rows change, when it costs no layout
    body.replaceChildren(...rows.map(lineOf));
    status(from, rows.length, pages);
  }

  function status(from, count, pages) {
    const [first, last, all] = [from + 1, from + count, shown.length].map((n) => number(n, true));
    byId("gene-count").textContent = count === 0 ? "no gene matches" : `${first}–${last} of ${all}`;
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
