// Numbers of one model, or of two side by side; filters over items; pictures are made when they come into view.

const PAGE_SIZE = 40;
const summary = read("summary-data");
const rows = Array.from({length: summary.records}, (_, number) => ({...read(`row-${number}`), number}));
const form = document.getElementById("filters");
const state = {q: "", category: "", change: "", sort: "index", page: 1};
const figure = (value, digits = 4) => value === null || value === undefined ? "–" : value.toFixed(digits);

function about() {
  document.getElementById("about").textContent = `${summary.benchmark} (${summary.protocol}), judged by ` +
    `${summary.judge ?? "nobody"}: ${summary.models.join(" against ")}`;
  document.getElementById("absent").replaceChildren(...summary.absent.map((text) => make("li", {}, text)));
}

function table() {
  const two = summary.models.length === 2;
  const head = make("tr", {}, ["number", ...summary.models, ...(two ? ["difference", "95 % interval"] : [])]
    .map((title, place) => make("th", {class: place ? "figure" : null}, title)));
  const body = summary.numbers.map((found) => make("tr", {class: "number-row", "data-name": found.name},
    make("td", {}, found.name),
    found.means.map((mean) => make("td", {class: "figure"}, mean === null ? "–" :
      figure(mean.mean) + (mean.stderr === null ? "" : ` ± ${figure(mean.stderr)}`))),
    two ? [make("td", {class: "figure"}, found.difference ? signed(found.difference.difference, 4) : "–"),
      make("td", {class: "figure"}, found.difference ?
        `[${score(found.difference.low, 4)}, ${score(found.difference.high, 4)}]` +
        (found.difference.low > 0 || found.difference.high < 0 ? " *" : "") : "–")] : []));
  document.getElementById("tables").replaceChildren(make("div", {class: "panel broad"},
    make("table", {}, make("thead", {}, head), make("tbody", {}, body)),
    two ? make("p", {class: "quiet"}, "An asterisk: the interval does not hold zero. Paired over items.") : null));
}

function matches(row) {
  if (state.category && row.category !== state.category) return false;
  if (state.change === "failed" ? !row.failed.some(Boolean) : state.change && row.change !== state.change) return false;
  return state.q.toLowerCase().split(/\s+/).every((word) => row.text.includes(word));
}

const ORDERS = {
  index: (a, b) => a.number - b.number,
  loss: (a, b) => (a.difference ?? Infinity) - (b.difference ?? Infinity),
  gain: (a, b) => (b.difference ?? -Infinity) - (a.difference ?? -Infinity),
  low: (a, b) => (a.values[0] ?? Infinity) - (b.values[0] ?? Infinity),
};

let watcher = null;

function shown(url, prompt) {
  const picture = make("img", {src: url, alt: prompt, class: "shown"});
  picture.addEventListener("load", () => picture.classList.toggle("tiny", picture.naturalWidth < 128));
  return picture;
}

function side(row, place, more) {
  const pictures = more.pictures[place].map((url) => url ? shown(url, row.prompt) :
    make("span", {class: "badge bad"}, "no picture"));
  return make("div", {class: "panel side"}, make("h2", {}, summary.models[place]), make("div", {class: "strip"}, pictures),
    make("p", {}, row.values[place] === null ? make("span", {class: "badge bad"}, row.failed[place] || "missing") :
      make("b", {class: "number"}, figure(row.values[place], 3))),
    more.replies[place].map((text) => make("pre", {}, text)));
}

function pair(row) {
  const inside = make("div", {class: "tables"});
  const element = make("section", {class: "pair", "data-id": row.id},
    make("h2", {}, row.prompt, " ", make("span", {class: "quiet"}, `${row.category} · ${row.id}`),
      row.difference === null ? null : [" ", signed(row.difference, 3)]), inside);
  element.fill = () => {
    const more = read(`more-${row.number}`);
    inside.replaceChildren(...summary.models.map((_, place) => side(row, place, more)));
  };
  return element;
}

function refresh() {
  const chosen = rows.filter(matches).sort(ORDERS[state.sort]);
  const last = Math.max(1, Math.ceil(chosen.length / PAGE_SIZE));
  state.page = Math.min(Math.max(1, state.page), last);
  document.getElementById("count").textContent = `${whole(chosen.length)} of ${whole(rows.length)} items`;
  const turn = (label, by) => make("button", {type: "button", disabled: state.page + by < 1 || state.page + by > last,
    onclick: () => { state.page += by; refresh(); }}, label);
  document.getElementById("pages").replaceChildren(turn("Previous", -1), make("span", {}, `page ${state.page} of ${last}`),
    turn("Next", 1));
  watcher?.disconnect();
  watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); entry.target.fill(); }
  }, {rootMargin: "500px"});
  const pairs = chosen.slice((state.page - 1) * PAGE_SIZE, state.page * PAGE_SIZE).map(pair);
  document.getElementById("pairs").replaceChildren(...pairs);
  pairs.forEach((element) => watcher.observe(element));
}

form.elements.category.append(make("option", {value: ""}, "all"),
  ...[...new Set(rows.map((row) => row.category))].map((name) => make("option", {value: name}, name)));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => { state[event.target.name] = event.target.value; state.page = 1; refresh(); });
about();
table();
refresh();
document.documentElement.dataset.ready = "yes";
