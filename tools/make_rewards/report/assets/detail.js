// All that is known of one candidate.

const dialog = document.getElementById("detail");

function showDetail(row, show, {step, close, change, position}) {
  const rest = more(row), region = {chosen: null};
  const stage = make("div", {class: "stage"}), legend = make("div", {class: "legend"});
  const lines = (row.regions ?? []).map((entry, number) => regionLine(entry, number, choose));

  function choose(number, keep) {
    if (keep) region.chosen = region.chosen === number ? null : number;
    const lit = keep ? region.chosen : number;
    lines.forEach((line, i) => line.classList.toggle("chosen", i === lit));
    stage.querySelectorAll(".region").forEach((shape) => shape.classList.toggle("chosen", Number(shape.dataset.number) === lit));
    if (lit !== null && keep) lines[lit]?.scrollIntoView({block: "nearest"});
  }

  function draw() {
    const inner = frame(row, picture(row)), above = overlay(row, show, choose);
    const map = above !== null && above.tagName === "CANVAS";
    inner.classList.toggle("faded", map);
    if (above !== null) inner.append(above);
    if (row.original && picture(row) !== null) sharpen(inner.querySelector("img"), row.original);
    stage.replaceChildren(inner);
    legend.replaceChildren(...legendOf(row, rest, show, map ? above : null));
  }

  const sheet = make("div", {class: "sheet"},
    make("header", {}, make("h2", {}, row.id), make("span", {class: "quiet number"}, position),
      make("button", {type: "button", onclick: () => step(-1)}, "Previous"),
      make("button", {type: "button", onclick: () => step(1)}, "Next"),
      make("button", {type: "button", id: "close", onclick: close}, "Close")),
    make("div", {class: "left"}, stage,
      make("div", {}, make("fieldset", {class: "switch"}, make("legend", {class: "hidden"}, "Overlay"), switchOf("detail-show", show, (value) => {
        show = value;
        draw();
        change(value);
      }))), legend, row.original ? make("p", {}, make("a", {href: row.original, target: "_blank", rel: "noreferrer"}, "Open the original image")) : null),
    make("div", {class: "right"}, facts(row, rest), regions(row, lines), droppedRegions(row), questions(rest), texts(row, rest)));
  dialog.replaceChildren(sheet);
  draw();
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("#close").focus();
}

// The thumbnail stays where the original cannot be reached.
function sharpen(element, address) {
  const image = new Image();
  image.onload = () => { element.src = address; };
  image.src = address;
}

function legendOf(row, rest, show, canvas) {
  const map = rest.maps?.[show];
  if (show === "boxes") {
    if (row.regions) return ["−1", scale(), "+1", make("span", {}, "score of the region")];
    return [make("span", {}, row.proposals ? "proposed regions, not judged" : "no regions")];
  }
  if (show === "none") return [];
  if (!map) return [make("span", {}, "no reward map: not judged")];
  const [low, , high] = RANGES[show], alpha = map.alpha ?? null;
  const output = make("output", {}), values = decodeMap(map), formula = alpha === null ? "no global score, so no α" : `α = ${alpha.toFixed(3)}`;
  canvas.addEventListener("mousemove", (event) => {
    const column = Math.min(values[0].length - 1, Math.max(0, Math.floor(event.offsetX / canvas.clientWidth * values[0].length)));
    const line = Math.min(values.length - 1, Math.max(0, Math.floor(event.offsetY / canvas.clientHeight * values.length)));
    const value = values[line][column];
    output.textContent = `token ${line}, ${column}: R ${score(value, 3)}` + (alpha === null ? "" : `, weight ${score(alpha * value, 3)}`);
  });
  return [score(low, 0), scale(), score(high, 0),
    make("span", {}, `R on ${values[0].length} × ${values.length} tokens · ${formula}`), output];
}

function facts(row, rest) {
  const alpha = (name) => rest.maps?.[name]?.alpha?.toFixed(3) ?? "–";
  const globals = row.global;
  const entries = [
    ["state", row.rejected ? make("span", {class: "bad"}, `rejected by ${row.rejected.stage}: ${row.rejected.reason}. ${row.rejected.detail}`) : row.state],
    ["global score", globals ? make("span", {}, signed(globals.score, 3), make("span", {class: "reason"},
      ` raw ${score(globals.raw, 3)}${"other" in globals ? ` · other judge ${score(globals.other, 3)}` : ""}${globals.flags ? ` · ${globals.flags.join(", ")}` : ""}`)) :
      row.status ? row.status.global : null],
    ["reason", globals?.reason],
    ["α", rest.maps ? `paper ${alpha("paper")} · official ${alpha("official")}` : null],
    ["αR + λ < 0", rest.maps ? `paper ${share(rest.maps.paper.negative)} · official ${share(rest.maps.official.negative)} of tokens` : null],
    ["category", row.category], ["asks for an arrangement", row.directive ? "yes" : "no"],
    ["keywords", rest.keywords?.join(", ")],
    ["missing", row.missing && make("span", {class: "bad"}, row.missing.join(", "))],
    ["status", row.status && Object.entries(row.status).map(([kind, status]) => `${kind} ${status}`).join(" · ")],
    ["attempts", rest.attempts && `identify ${rest.attempts[0]} · local ${rest.attempts[1]} · global ${rest.attempts[2]}`],
    ["problems", rest.problems && Object.entries(rest.problems).map(([name, count]) => `${name} ${count}`).join(" · ")],
    ["image", [`${row.width} × ${row.height}`, `seed ${rest.seed}`, row.note].filter(Boolean).join(" · ")],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  return [make("div", {class: "prompt"}, row.prompt), make("dl", {class: "facts"}, entries.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]))];
}

function regionLine(entry, number, choose) {
  const swatch = make("span", {class: "swatch"}, String(number + 1));
  swatch.style.background = colour(entry.score);
  const notes = [entry.keyword && `keyword ${entry.keyword}`, entry.claim && `claims ${entry.claim}`, ...(entry.flags ?? [])].filter(Boolean);
  return make("tr", {class: "pick", onclick: () => choose(number, true), onmouseenter: () => choose(number, false)},
    make("td", {}, swatch),
    make("td", {}, entry.object || "no name", notes.length ? make("div", {class: "reason"}, notes.join(" · ")) : null,
      entry.reason ? make("div", {class: "reason"}, entry.reason) : null),
    make("td", {}, entry.verdict), make("td", {class: "figure"}, signed(entry.score)), make("td", {class: "figure"}, score(entry.raw)),
    make("td", {class: "figure"}, (entry.severity ?? 0).toFixed(2)), make("td", {class: "figure"}, "other" in entry ? score(entry.other) : ""));
}

function regions(row, lines) {
  if (!row.regions) return row.status ? make("h3", {}, "No region has a score") : null;
  const heads = ["", "object", "verdict", "score", "raw", "severity", row.regions.some((entry) => "other" in entry) ? "other" : ""];
  return [make("h3", {}, `Regions${row.found === undefined ? "" : `, of ${row.found} proposed`}`), make("table", {},
    make("thead", {}, make("tr", {}, heads.map((name, i) => make("th", {class: i > 2 && "figure"}, name)))), make("tbody", {}, lines))];
}

function droppedRegions(row) {
  if (!row.dropped) return null;
  return make("details", {}, make("summary", {}, `Regions that were dropped (${row.dropped.length})`), make("table", {}, make("tbody", {},
    row.dropped.map(({box, verdict, why}) => make("tr", {}, make("td", {}, why), make("td", {}, verdict ?? ""), make("td", {class: "figure"}, box.join(", ")))))));
}

// Of `judge --mode questions`: those about the picture, then those about its regions.
function questions(rest) {
  if (!rest.questions) return null;
  const heads = ["p(yes)", "question", "kind", "object", "where"];
  return [make("h3", {}, "Questions"), make("table", {class: "questions"},
    make("thead", {}, make("tr", {}, heads.map((name, i) => make("th", {class: !i && "figure"}, name)))),
    make("tbody", {}, rest.questions.map(({kind, object, text, yes, box}) => make("tr", {},
      make("td", {class: "figure"}, yes.toFixed(3)), make("td", {}, text), make("td", {}, kind), make("td", {}, object),
      make("td", {}, box ? box.join(", ") : "picture")))))];
}

function texts(row, rest) {
  const block = (title, text) => text ? make("details", {}, make("summary", {}, title), make("pre", {}, text)) : null;
  return [
    block("Detailed prompt", rest.detailed), block(`Thoughts${rest.think_truncated ? ", cut off at the token limit" : ""}`, rest.think),
    ...(rest.calls ?? []).map((call) => {
      const title = `Reply: ${call.kind}, attempt ${call.attempt} (${call.num_tokens} tokens, ${call.finish_reason})`;
      const missing = "text" in call ? "(empty)" : "The text was not kept (judge --no-keep-raw).";
      return block(title, (call.text || missing) + (call.cut ? `\n\n[${whole(call.cut)} more characters are not on this page]` : ""));
    }),
  ];
}
