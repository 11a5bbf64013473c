"use strict";
(function () {
  // A cell's data-key is what it is sorted by; one without a key is missing, and stays last.
  function compare(a, b, sign) {
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const [x, y] = [Number(a), Number(b)];
    const numbers = a.trim() !== "" && b.trim() !== "" && !isNaN(x) && !isNaN(y);
    return sign * (numbers ? x - y : a < b ? -1 : a > b ? 1 : 0);
  }

  function sortable(table) {
    const body = table.tBodies[0], heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => {
        // Numbers are first sorted downwards, words upwards: what one looks for comes first.
        const was = head.getAttribute("aria-sort");
        const down = was === null ? head.classList.contains("num") : was === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = Array.from(body.rows), sign = down ? -1 : 1;
        rows.sort((a, b) => compare(a.cells[at].dataset.key, b.cells[at].dataset.key, sign));
        body.append(...rows);
      });
      head.replaceChildren(button);
    });
  }

  document.querySelectorAll("table.sortable").forEach(sortable);
})();
