// Values under the pointer. Places and values are in pixels of the drawing; see plot.rs. Plots of one section that are over
// time have the same places, and share their cursor: values are shown in the one under the pointer.
const plots = [];
for (const figure of document.querySelectorAll("figure[data-hover]")) {
  const hover = JSON.parse(figure.dataset.hover);
  const svg = figure.querySelector("svg");
  const line = figure.appendChild(Object.assign(document.createElement("div"), { className: "line", hidden: true }));
  const tip = figure.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
  const scale = () => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const plot = { group: figure.dataset.cursor, show, point, hide };
  plots.push(plot);

  function show(at) {
    const box = svg.getBoundingClientRect(), outer = figure.getBoundingClientRect();
    const left = box.left - outer.left + hover.places[at][0] * scale(), top = box.top - outer.top;
    line.style.left = `${left}px`;
    line.style.top = `${top + hover.top * scale()}px`;
    line.style.height = `${(hover.bottom - hover.top) * scale()}px`;
    line.hidden = false;
    return [left, top, outer.width];
  }

  function point(at) {
    const [left, top, width] = show(at);
    tip.replaceChildren(Object.assign(document.createElement("b"), { textContent: hover.places[at][1] }));
    const known = hover.lines.filter((entry) => entry.values[at]);
    for (const entry of known.sort((a, b) => a.values[at][0] - b.values[at][0])) {
      const row = tip.appendChild(document.createElement("div"));
      row.appendChild(Object.assign(document.createElement("span"), { className: `dot ${entry.color}` }));
      row.append(Object.assign(document.createElement("bdi"), { textContent: entry.name }), `: ${entry.values[at][1]}`);
    }
    tip.hidden = false;
    const fits = left + tip.offsetWidth + 24 < width;
    tip.style.left = `${fits ? left + 12 : Math.max(0, left - tip.offsetWidth - 12)}px`;
    tip.style.top = `${top + hover.top * scale() + 8}px`;
  }

  function hide() {
    line.hidden = tip.hidden = true;
  }

  const group = () => plots.filter((other) => other === plot || (plot.group && other.group === plot.group));
  figure.addEventListener("pointermove", (event) => {
    const x = (event.clientX - svg.getBoundingClientRect().left) / scale();
    const distance = (place) => Math.abs(place[0] - x);
    const at = hover.places.reduce((best, place, i) => (distance(place) < distance(hover.places[best]) ? i : best), 0);
    for (const other of group()) {
      other === plot ? other.point(at) : other.show(at);
    }
  });
  figure.addEventListener("pointerleave", () => group().forEach((other) => other.hide()));
}
