// Values under the pointer. Places and values are in pixels of the drawing; see plot.rs.
for (const figure of document.querySelectorAll("figure[data-hover]")) {
  const hover = JSON.parse(figure.dataset.hover);
  const svg = figure.querySelector("svg");
  const line = figure.appendChild(Object.assign(document.createElement("div"), { className: "line", hidden: true }));
  const tip = figure.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
  figure.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), outer = figure.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / scale;
    const distance = (place) => Math.abs(place[0] - x);
    const at = hover.places.reduce((best, place, i) => (distance(place) < distance(hover.places[best]) ? i : best), 0);
    const left = box.left - outer.left + hover.places[at][0] * scale, top = box.top - outer.top;
    line.style.left = `${left}px`;
    line.style.top = `${top + hover.top * scale}px`;
    line.style.height = `${(hover.bottom - hover.top) * scale}px`;
    tip.replaceChildren(Object.assign(document.createElement("b"), { textContent: hover.places[at][1] }));
    const known = hover.lines.filter((entry) => entry.values[at]);
    for (const entry of known.sort((a, b) => a.values[at][0] - b.values[at][0])) {
      const row = tip.appendChild(document.createElement("div"));
      const dot = row.appendChild(Object.assign(document.createElement("span"), { className: "dot" }));
      dot.style.background = entry.color;
      row.append(Object.assign(document.createElement("bdi"), { textContent: entry.name }), `: ${entry.values[at][1]}`);
    }
    line.hidden = tip.hidden = false;
    const fits = left + tip.offsetWidth + 24 < outer.width;
    tip.style.left = `${fits ? left + 12 : left - tip.offsetWidth - 12}px`;
    tip.style.top = `${top + hover.top * scale + 8}px`;
  });
  figure.addEventListener("pointerleave", () => { line.hidden = tip.hidden = true; });
}
