// Which candidates are shown, in which order: a function of the state, which the address holds.

const PAGE_SIZE = 60;
const DEFAULTS = {q: "", state: "", category: "", verdict: "", tag: "", local: "", global: "", by: "mean", low: "", high: "",
  sort: "index", page: "1", show: "boxes", open: ""};
const NONE = "(none)";

function readState() {
  const state = {...DEFAULTS};
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (Object.hasOwn(DEFAULTS, name)) state[name] = value;
  if (!SHOWS.some(([value]) => value === state.show)) state.show = DEFAULTS.show;
  if (!["mean", "worst", "layout"].includes(state.by)) state.by = DEFAULTS.by;
  return state;
}

function writeState(state) {
  const changed = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  history.replaceState(null, "", `#${new URLSearchParams(changed)}`);
}

const CHOICES = { // values of a row under each filter
  state: (row) => [row.state],
  category: (row) => [row.category || NONE],
  verdict: (row) => (row.regions ?? []).map((region) => region.verdict),
  tag: (row) => row.tags ?? [],
  local: (row) => [row.status?.local ?? NONE],
  global: (row) => [row.status?.global ?? NONE],
};

function select(state) {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const low = state.low === "" ? -Infinity : Number(state.low), high = state.high === "" ? Infinity : Number(state.high);
  const bounded = low > -Infinity || high < Infinity, slack = 1e-9; // of decimal fractions
  const found = rows.filter((row) =>
    words.every((word) => row.text.includes(word)) &&
    Object.entries(CHOICES).every(([name, values]) => state[name] === "" || values(row).includes(state[name])) &&
    (!bounded || row[state.by] !== null && row[state.by] >= low - slack && row[state.by] <= high + slack));
  const [key, direction] = state.sort.split("-");
  if (["layout", "mean", "worst"].includes(key)) {
    const order = direction === "down" ? -1 : 1;
    const last = (row) => row[key] === null ? 1 : 0;
    found.sort((a, b) => last(a) - last(b) || order * (a[key] - b[key]) || a.number - b.number);
  }
  return found;
}

function fillChoices(form) {
  for (const [name, values] of Object.entries(CHOICES)) {
    const counts = new Map();
    for (const row of rows) for (const value of new Set(values(row))) counts.set(value, (counts.get(value) ?? 0) + 1);
    const options = [...counts].sort(([a], [b]) => a < b ? -1 : 1).map(([value, count]) =>
      ({value, option: make("option", {value}, `${name === "tag" ? value.slice(value.indexOf(":") + 1) : value} (${whole(count)})`)}));
    const control = form.elements[name];
    control.append(make("option", {value: ""}, "any"));
    if (name !== "tag") control.append(...options.map(({option}) => option));
    else for (const group of new Set(options.map(({value}) => value.split(":")[0]))) {
      control.append(make("optgroup", {label: {dropped: "dropped regions", flag: "flags", problem: "problems", rejected: "rejected"}[group] ?? group},
        options.filter(({value}) => value.startsWith(`${group}:`)).map(({option}) => option)));
    }
    control.disabled = options.length === 0;
  }
}
