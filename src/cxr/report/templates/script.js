// Draw the charts, let the controls set their parameters, and sort tables.
const { specs, datasets } = JSON.parse(document.getElementById("data").textContent);
const views = [];
const has = (name, spec) => (spec.params || []).some((param) => param.name === name);

function set(control) {
  const { param, at } = control.dataset;
  const value = control.type === "range" ? Number(control.value) : control.value;
  // One parameter may have several controls; they move together.
  for (const other of document.querySelectorAll(`[data-param="${param}"]`)) other.value = control.value;
  for (const output of document.querySelectorAll(`output[data-of="${param}"]`))
    output.value = at ? value.toFixed(at) : value;
  const drawn = views.filter(({ spec }) => has(param, spec));
  return Promise.all(drawn.map(({ view }) => view.signal(param, value).runAsync())).then(say);
}

function say() {
  // The numbers of the confusion matrix and the rates, for screen readers.
  const found = document.querySelectorAll(
    '[data-chart="confusion"] text[aria-label], [data-chart="rates"] text[aria-label]');
  const said = document.getElementById("said");
  if (said) said.textContent = [...found].map((text) => text.getAttribute("aria-label")).join("; ");
}

for (const control of document.querySelectorAll("[data-param]"))
  control.addEventListener("input", () => {
    const start = control.selectedOptions?.[0].dataset.threshold;
    const slider = document.getElementById("threshold");
    if (start && slider) { slider.value = start; set(slider); }
    set(control);
  });

for (const button of document.querySelectorAll("th button"))
  button.addEventListener("click", () => {
    const header = button.closest("th");
    const down = header.getAttribute("aria-sort") !== "descending";
    for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = header.closest("table").tBodies[0];
    const key = (row) => row.cells[header.cellIndex].dataset.order ?? "";
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // unknown figures last
      const order = isNaN(x) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    });
    body.append(...rows);
  });

Promise.all([...document.querySelectorAll("[data-chart]")].map(async (figure) => {
  const spec = specs[figure.dataset.chart];
  const options = { renderer: "svg", actions: false, tooltip: { theme: "custom" } };
  const { view } = await vegaEmbed(figure, { ...spec, datasets }, options);
  views.push({ view, spec });
})).then(say).then(() => document.documentElement.classList.add("drawn"));
