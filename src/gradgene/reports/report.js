"use strict";
// What every part of the page shares. The parts are in files of their own, in one script element.
const Report = {
  counts: new Intl.NumberFormat("en"),

  byId: (id) => document.getElementById(id),

  /* The content of a JSON island, null where the page has none. */
  island(id) {
    const found = document.getElementById(id);
    return found === null ? null : JSON.parse(found.textContent);
  },

  /* A number as gradgene.reports.numbers.number writes it, so that a row looks the same drawn again. */
  number(value, count = false) {
    if (value === null || value === undefined) return "–";
    if (count) return Report.counts.format(value);
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size < 1e-4 || size >= 1e5) {
      return value.toExponential(2).replace(/\.?0+e/, "e").replace(/e([+-])(\d)$/, "e$10$2");
    }
    if (size >= 1000) return Report.counts.format(Math.round(value));
    return String(Number(value.toPrecision(3)));
  },

  /* An element with attributes and children; text only ever as text: a gene may be named like a tag. */
  element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  },

  /* A link to what is known of a gene, as gradgene.reports.sections.genes.gene_url makes it. */
  geneLink(gene, ensembl) {
    return Report.element("a", { href: Report.genePage(gene, ensembl), rel: "noopener noreferrer" }, gene);
  },

  genePage(gene, ensembl) {
    const id = [ensembl, gene].find((name) => /^ENS[A-Z]*G\d{11}(\.\d+)?$/.test(name ?? ""));
    return id ? "https://www.ensembl.org/id/" + id.split(".")[0]
      : "https://www.ncbi.nlm.nih.gov/gene/?term=" + encodeURIComponent(gene);
  },
};

// Buttons that copy the text of another element; without a clipboard by way of a text field.
(function () {
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch (refused) {
      const field = Report.element("textarea", { class: "unseen", "aria-hidden": "true" });
      field.value = text;
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      return done;
    }
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    const said = Report.element("span", { class: "said", role: "status" });
    button.after(said);
    button.hidden = false;
    button.addEventListener("click", async () => {
      const from = document.querySelector(button.dataset.copy);
      const done = await copy((from.innerText || from.textContent).trim());
      button.focus();
      said.textContent = done ? "Copied" : "Select the text and copy it by hand";
      button.classList.toggle("done", done);
      setTimeout(() => { said.textContent = ""; button.classList.remove("done"); }, 2500);
    });
  }
})();

// Print shows everything that is folded away on the screen, and folds it again afterwards.
(function () {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
})();
