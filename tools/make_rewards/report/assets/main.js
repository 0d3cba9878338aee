// State, and what changes it.

const form = document.getElementById("filters");
let state = readState(), chosen = [];

function numPages() { return Math.max(1, Math.ceil(chosen.length / PAGE_SIZE)); }
function pageNumber() { return Math.min(numPages(), Math.max(1, Math.floor(Number(state.page)) || 1)); }

function update(changes, {keepPage = false} = {}) {
  state = {...state, ...changes, ...(keepPage ? {} : {page: "1"})};
  refresh();
}

function refresh() {
  chosen = select(state);
  const page = pageNumber();
  state.page = String(page);
  for (const name of Object.keys(DEFAULTS)) {
    const control = form.elements[name];
    if (!control) continue;
    if (control.value !== state[name]) control.value = state[name];
    control.classList.toggle("changed", state[name] !== DEFAULTS[name]);
  }
  document.getElementById("count").textContent = chosen.length === rows.length ? `${whole(rows.length)} candidates` :
    `${whole(chosen.length)} of ${whole(rows.length)} candidates`;
  document.getElementById("shows").replaceChildren(make("legend", {class: "hidden"}, "Overlay"),
    ...switchOf("show", state.show, (show) => update({show}, {keepPage: true})));
  const turn = (label, by) => make("button", {type: "button", disabled: page + by < 1 || page + by > numPages(), onclick: () => turnPage(by)}, label);
  document.getElementById("pages").replaceChildren(turn("Previous", -1), make("span", {}, `page ${page} of ${numPages()}`), turn("Next", 1));
  showCards(chosen.slice((page - 1) * PAGE_SIZE, page * PAGE_SIZE), state.show, open);
  writeState(state);
}

function turnPage(by) {
  const page = pageNumber() + by;
  if (page < 1 || page > numPages()) return;
  update({page: String(page)}, {keepPage: true});
  const bar = document.querySelector(".bar");
  if (bar.getBoundingClientRect().top <= 0) form.scrollIntoView();
}

function open(row) {
  const place = chosen.indexOf(row);
  state.open = row.id;
  writeState(state);
  showDetail(row, state.show, {
    step, close: () => dialog.close(), change: (show) => { state.show = show; writeState(state); },
    position: place < 0 ? "" : `${whole(place + 1)} of ${whole(chosen.length)}`,
  });
}

function step(by) {
  const place = chosen.findIndex((row) => row.id === state.open) + by;
  if (place < 0 || place >= chosen.length) return;
  state.page = String(Math.floor(place / PAGE_SIZE) + 1);
  open(chosen[place]);
}

function openFromState() {
  const row = state.open && rows.find(({id}) => id === state.open);
  if (row) open(row);
  else if (dialog.open) dialog.close();
}

dialog.addEventListener("close", () => {
  const id = state.open;
  state.open = "";
  dialog.replaceChildren();
  refresh();
  document.querySelector(`.card[data-id="${CSS.escape(id)}"]`)?.focus();
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => update({[event.target.name]: event.target.value}));
document.getElementById("clear").addEventListener("click", () => update({...DEFAULTS, show: state.show}));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = event.target.matches("input:not([type=radio]), select, textarea");
  if (event.key === "/" && !inField && !dialog.open) {
    event.preventDefault();
    form.elements.q.focus();
  }
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (by === undefined || inField) return;
  event.preventDefault();
  if (dialog.open) step(by);
  else turnPage(by);
});
window.addEventListener("hashchange", () => {
  state = readState();
  refresh();
  openFromState();
});

about();
stages();
figures();
charts();
tables((wanted) => {
  update({...DEFAULTS, show: state.show, ...wanted});
  form.scrollIntoView({behavior: "smooth"});
});
fillChoices(form);
refresh();
openFromState();
document.documentElement.dataset.ready = "yes";
