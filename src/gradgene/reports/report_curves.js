// The pruning curves, drawn from their island: values on hover and focus, curves switched off and on.
(function () {
  const charts = Report.island("curve-data");
  if (charts === null) return;
  const { element, number } = Report;
  const W = 800, H = 400, LEFT = 62, RIGHT = 16, TOP = 14, BOTTOM = 54;
  const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;
  const svg = (name, attributes = {}, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const MARKERS = {
    circle: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    square: "M-3.5-3.5h7v7h-7z",
    triangle: "M0-4.5L4.3 3.5H-4.3z",
    diamond: "M0-5L4.5 0L0 5L-4.5 0z",
    cross: "M-4.2-2.2l2-2L0-2l2.2-2.2l2 2L2 0l2.2 2.2l-2 2L0 2l-2.2 2.2l-2-2L-2 0z",
    down: "M0 4.5L4.3-3.5H-4.3z",
  };
  const hidden = new Set(Object.keys(charts.styles).filter((name) => !charts.styles[name].shown));
  const drawn = [];

  const stroke = ({ colour, dash, width }) => ({
    stroke: colour, "stroke-width": width, "stroke-dasharray": dash.map((d) => d * width).join(" "),
  });

  /* Round values between two ends, about five of them. */
  function rounds(low, high) {
    const rough = (high - low) / 5, size = 10 ** Math.floor(Math.log10(rough));
    const step = size * ([1, 2, 2.5, 5].find((f) => f * size >= rough) ?? 10), found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9; i += 1) found.push(i * step);
    return found;
  }

  function sentence(name, chart, point) {
    const [at, value, low, high, cells, donors, draws] = point;
    const parts = [`${name}: ${number(value)}`];
    if (low !== null) {
      const what = draws > 1 ? `lowest to highest of ${draws} draws` : "95 % interval over donors";
      parts.push(`${number(low)} to ${number(high)} (${what})`);
    }
    parts.push(`${percent(chart.ratios[at])} of the genes removed`);
    if (cells !== null) {
      parts.push(`${number(cells, true)} cells${donors ? ` of ${donors} donors` : ""}`);
    }
    return parts;
  }

  class Chart {
    constructor(place, chart) {
      this.chart = chart;
      this.measure = chart.measures[0];
      this.place = place;
      this.tip = element("div", { class: "tip", hidden: "" });
      this.plot = element("div", { class: "plot" });
      this.live = place.querySelector(".live");
      this.live.append(...this.chooser(), this.plot, this.legend());
      this.live.hidden = false;
      place.classList.add("drawn");
      this.draw();
    }

    chooser() {
      const { measures, title } = this.chart;
      const heading = element("p", { class: "charttitle" }, title);
      if (measures.length < 2) return [heading];
      const select = element("select", { "data-measure": "", "aria-label": `${title}: what is measured` });
      measures.forEach((one, i) => select.append(element("option", { value: i }, one.name)));
      select.addEventListener("change", () => {
        this.measure = measures[Number(select.value)];
        this.draw();
      });
      return [element("div", { class: "chartbar" }, heading, select)];
    }

    legend() {
      const box = element("div", { class: "legend", role: "group", "aria-label": "Curves" });
      const names = Object.keys(charts.styles)
        .filter((name) => this.chart.measures.some((one) => name in one.curves));
      const others = names.filter((name) => hidden.has(name));
      box.append(...names.filter((name) => !hidden.has(name)).map((name) => this.switch(name)));
      if (others.length > 0) {
        box.append(element("details", {}, element("summary", {}, `${others.length} more rankings`),
          element("div", { class: "legend" }, ...others.map((name) => this.switch(name)))));
      }
      return box;
    }

    switch(name) {
      const style = charts.styles[name];
      const swatch = svg("svg", { width: 34, height: 12, viewBox: "0 -6 34 12", "aria-hidden": "true" },
        svg("path", { d: "M0 0H34", fill: "none", ...stroke(style) }),
        svg("path", { d: MARKERS[style.marker], transform: "translate(17)", fill: style.colour }));
      const button = element("button", { type: "button", "data-toggle": name,
        "aria-pressed": String(!hidden.has(name)) }, swatch, name);
      button.addEventListener("click", () => toggle(name));
      return button;
    }

    shown() {
      return Object.keys(charts.styles)
        .filter((name) => !hidden.has(name) && name in this.measure.curves);
    }

    draw() {
      const names = this.shown(), { curves, chance } = this.measure;
      const all = Object.values(curves).flat().flatMap((p) => [p[1], p[2] ?? p[1], p[3] ?? p[1]]);
      if (chance !== null) all.push(chance);
      const least = Math.min(...all), most = Math.max(...all), room = 0.04 * (most - least || 1);
      const [low, high] = [least - room, most + room];
      const x = (at) => LEFT + 8 + this.chart.places[at] * (W - LEFT - RIGHT - 16);
      const y = (value) => TOP + ((high - value) / (high - low)) * (H - TOP - BOTTOM);
      const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "group",
        "aria-label": `${this.chart.title}: ${this.measure.name}. Arrow keys go from point to point and from curve to curve.` });
      picture.append(this.axes(x, y, rounds(low, high)));
      if (chance !== null) {
        picture.append(svg("path", { d: `M${LEFT} ${y(chance)}H${W - RIGHT}`, class: "chance" }),
          svg("text", { x: LEFT + 6, y: y(chance) - 5, class: "small" }, `chance ${number(chance)}`));
      }
      this.points = [];
      const bold = Math.max(...Object.values(charts.styles).map((style) => style.width));
      // Where there are many, bands of those that are compared most, as in the figures.
      const banded = (name) => names.length <= 4 || name === "random" || charts.styles[name].width === bold;
      for (const name of names.filter(banded)) picture.append(this.band(name, x, y));
      for (const name of names.slice().reverse()) picture.append(this.curve(name, x, y));
      this.points.reverse();
      this.plot.replaceChildren(picture, this.tip);
      this.hide();
      if (this.points.length > 0) this.points[0][0].node.tabIndex = 0;
      picture.addEventListener("pointermove", (event) => this.hover(event, picture));
      picture.addEventListener("pointerleave", () => this.hide());
      picture.addEventListener("keydown", (event) => this.key(event));
    }

    axes(x, y, values) {
      const group = svg("g", { "aria-hidden": "true" });
      for (const value of values) {
        group.append(svg("path", { d: `M${LEFT} ${y(value)}H${W - RIGHT}`, class: "grid" }),
          svg("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(3)))));
      }
      for (const at of this.chart.ticks) {
        group.append(svg("path", { d: `M${x(at)} ${H - BOTTOM}v5`, class: "tick" }),
          svg("text", { x: x(at), y: H - BOTTOM + 19, "text-anchor": "middle" },
            String(Number((100 * this.chart.ratios[at]).toPrecision(3)))));
      }
      group.append(svg("path", { d: `M${LEFT} ${TOP}V${H - BOTTOM}H${W - RIGHT}`, class: "axis" }),
        svg("text", { x: (LEFT + W - RIGHT) / 2, y: H - 12, "text-anchor": "middle" }, this.chart.axis),
        svg("text", { transform: `translate(15 ${(TOP + H - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, this.measure.name));
      return group;
    }

    band(name, x, y) {
      const points = this.measure.curves[name].filter((p) => p[2] !== null);
      const path = [...points.map((p) => `${x(p[0])} ${y(p[3])}`),
        ...points.slice().reverse().map((p) => `${x(p[0])} ${y(p[2])}`)];
      return svg("path", { d: path.length ? `M${path.join("L")}z` : "", fill: charts.styles[name].colour, class: "band" });
    }

    curve(name, x, y) {
      const style = charts.styles[name], points = this.measure.curves[name];
      const group = svg("g", { "data-curve": name });
      group.append(svg("path", { d: `M${points.map((p) => `${x(p[0])} ${y(p[1])}`).join("L")}`, fill: "none", ...stroke(style) }));
      const mine = points.map((point) => {
        const parts = sentence(name, this.chart, point);
        const node = svg("path", { d: MARKERS[style.marker], class: "point", fill: style.colour,
          transform: `translate(${x(point[0])} ${y(point[1])})`, "data-point": "", tabindex: -1,
          role: "img", "aria-label": parts.join("; ") });
        node.addEventListener("focus", () => this.show(one));
        node.addEventListener("blur", () => this.hide());
        const one = { node, parts, at: point[0], x: x(point[0]), y: y(point[1]) };
        group.append(node);
        return one;
      });
      this.points.push(mine);
      return group;
    }

    hover(event, picture) {
      const box = picture.getBoundingClientRect(), scale = W / box.width;
      const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
      let best = null, least = 60 ** 2;
      for (const one of this.points.flat()) {
        const distance = (one.x - px) ** 2 + (one.y - py) ** 2;
        if (distance < least) [best, least] = [one, distance];
      }
      if (best === null) this.hide();
      else this.show(best);
    }

    key(event) {
      const row = this.points.findIndex((line) => line.some((one) => one.node === event.target));
      if (row < 0) return;
      const line = this.points[row], at = line.findIndex((one) => one.node === event.target);
      const across = (by) => {
        const next = this.points[(row + by + this.points.length) % this.points.length];
        return next.find((one) => one.at === line[at].at) ?? next[0];
      };
      const to = { ArrowRight: () => line[at + 1], ArrowLeft: () => line[at - 1], Home: () => line[0],
        End: () => line[line.length - 1], ArrowDown: () => across(1), ArrowUp: () => across(-1) }[event.key];
      if (event.key === "Escape") this.hide();
      if (to === undefined) return;
      event.preventDefault();
      const next = to();
      if (next === undefined) return;
      event.target.tabIndex = -1;
      next.node.tabIndex = 0;
      next.node.focus();
    }

    show(one) {
      this.hide();
      one.node.classList.add("on");
      const [first, ...rest] = one.parts;
      this.tip.replaceChildren(element("strong", {}, first), ...rest.map((part) => element("div", {}, part)));
      this.tip.hidden = false;
      const share = one.x / W;
      this.tip.style.left = `${100 * share}%`;
      this.tip.style.top = `${(100 * one.y) / H}%`;
      this.tip.style.transform = `translate(${share > 0.5 ? "calc(-100% - 12px)" : "12px"}, ${one.y > H / 2 ? "-105%" : "8px"})`;
    }

    hide() {
      this.tip.hidden = true;
      for (const node of this.plot.querySelectorAll(".on")) node.classList.remove("on");
    }
  }

  /* Off and on in every chart at once: they show the same rankings. */
  function toggle(name) {
    if (!hidden.delete(name)) hidden.add(name);
    for (const one of drawn) {
      for (const button of one.live.querySelectorAll("[data-toggle]")) {
        button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.toggle)));
      }
      one.draw();
    }
  }

  for (const chart of charts.charts) {
    const place = document.querySelector(`[data-chart="${chart.order}"]`);
    if (place !== null) drawn.push(new Chart(place, chart));
  }
})();
