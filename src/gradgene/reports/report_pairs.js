// One pair of cells at a time: the steps from the baseline's output to the input's.
(function () {
  const views = Report.island("pair-data"), choice = Report.byId("pair-select");
  if (views === null || choice === null) return;
  const { byId, element } = Report;

  function row(step) {
    const bar = element("i", { class: `${step.kind} ${step.sign}` });
    bar.style.left = `${step.left}%`;
    bar.style.width = `${step.width}%`;
    const name = step.kind === "gene" ? Report.geneLink(step.label) : step.label;
    return element("tr", { class: step.kind },
      element("th", { scope: "row" }, name),
      element("td", { class: "num" }, step.baseline),
      element("td", { class: "num" }, step.input),
      element("td", { class: "num" }, step.score),
      element("td", { class: "steps", "aria-hidden": "true" }, element("span", {}, bar)));
  }

  function show() {
    const view = views[Number(choice.value)];
    byId("pair-facts").replaceChildren(...view.facts.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value))));
    byId("pair-table").tBodies[0].replaceChildren(...view.steps.map(row));
  }

  choice.addEventListener("change", show);
  byId("pair-controls").hidden = views.length < 2;
})();
