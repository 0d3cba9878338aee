// One card a candidate. Its picture is made when the card comes into view.

let watcher = null;

function card(row, show, open) {
  const stage = make("div", {class: "stage"});
  const scores = row.mean === null && row.layout === null ? null : make("div", {class: "scores"},
    row.mean === null ? null : make("span", {}, "mean ", signed(row.mean)),
    row.worst === null || row.regions.length < 2 ? null : make("span", {}, "worst ", signed(row.worst)),
    row.layout === null ? null : make("span", {}, "global ", signed(row.layout)));
  const badges = [
    row.rejected && make("span", {class: "badge bad"}, row.rejected.reason),
    row.note && make("span", {class: "badge bad"}, row.note),
    row.missing && make("span", {class: "badge"}, `missing: ${row.missing.join(", ")}`),
    row.status && !["ok", "skipped"].includes(row.status.local) && make("span", {class: "badge"}, `local ${row.status.local}`),
    row.status && row.status.global === "unparsed" && make("span", {class: "badge"}, "global unparsed"),
  ].filter(Boolean);
  const element = make("button", {class: "card", type: "button", "data-id": row.id, onclick: () => open(row)}, stage,
    make("div", {class: "text"}, make("div", {class: "prompt", title: row.prompt}, row.prompt),
      make("div", {class: "id"}, [row.category, row.id].filter(Boolean).join(" · ")),
      badges.length ? make("div", {class: "badges"}, badges) : null, scores));
  element.fill = () => {
    const inner = frame(row, picture(row)), above = overlay(row, show, null);
    inner.classList.toggle("faded", above !== null && above.tagName === "CANVAS");
    if (above !== null) inner.append(above);
    stage.replaceChildren(inner);
  };
  return element;
}

function showCards(shown, show, open) {
  watcher?.disconnect();
  watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) {
      watcher.unobserve(entry.target);
      entry.target.fill();
    }
  }, {rootMargin: "500px"});
  const cards = shown.map((row) => card(row, show, open));
  document.getElementById("cards").replaceChildren(...(cards.length ? cards :
    [make("p", {class: "empty"}, "No candidate has all of this.")]));
  cards.forEach((element) => watcher.observe(element));
}
