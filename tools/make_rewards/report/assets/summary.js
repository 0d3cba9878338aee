// The head of the page: what there is, figures, histograms, tables.

function about() {
  const run = summary.run, shown = rows.length, parts = [
    run.name, `prompt set ${run.set ?? "without a name"}`, `generator ${run.generator}`,
    run.segmenter && `regions by ${run.segmenter}`, run.judge && `judge ${run.judge}`,
    shown < summary.found && `${whole(shown)} of ${whole(summary.found)} candidates are on this page, and all figures are theirs`];
  document.getElementById("about").textContent = parts.filter(Boolean).join(" · ");
  document.title = `Reward report: ${run.name}`;
}

function stages() {
  const {done, expected, exported} = summary.run, list = document.getElementById("stages"), absent = [];
  for (const [name, count] of Object.entries(done)) {
    const state = count === 0 ? "none" : count < expected ? "partial" : "whole";
    const text = state === "none" ? "not there" : `${whole(count)} of ${whole(expected)}`;
    list.append(make("li", {class: state}, make("b", {}, name), text));
    if (name === "segment" && summary.run.mode === "sample" && count === 0) continue; // not needed
    if (state === "none") absent.push({
      segment: "No regions have been proposed: there are no boxes.",
      judge: "Nothing has been judged: there are no scores, verdicts, reasons or reward maps.",
    }[name]);
    if (state === "partial") absent.push(`${name} is not complete: ${whole(expected - count)} candidates are still to come.`);
  }
  list.append(make("li", {class: exported ? "whole" : "none"}, make("b", {}, "export"), exported ? "done" : "not there"));
  if (!exported) absent.push("Nothing has been exported: what export would reject is not known yet.");
  document.getElementById("absent").append(...absent.map((text) => make("li", {}, text)));
}

function figures() {
  const {counts, prompts, without_directive, histograms, negative_factor, categories} = summary.statistics;
  const coefficient = summary.lambda_c;
  const below = histograms.region.count ? categories.reduce((sum, line) => sum + line.regions * (line.negative_regions ?? 0), 0) / histograms.region.count : null;
  const entries = [
    [whole(prompts), "prompts"], [whole(counts.candidates), "candidates"], [whole(counts.judged), "judged"],
    [summary.run.exported ? whole(counts.exported) : "–", "exported"], [whole(counts.rejected), "rejected"],
    [whole(histograms.region.count), "scored regions"], [score(histograms.region.mean), "mean region score"],
    [score(histograms.global.mean), "mean global score"],
    [share(below), "of region scores are below 0"],
    [share(without_directive), "of prompts ask for no arrangement"],
    [share(negative_factor.paper), `of tokens: paper's αR + ${coefficient} < 0`],
    [share(negative_factor.official), `of tokens: official αR + ${coefficient} < 0`],
  ];
  document.getElementById("figures").append(...entries.map(([value, label]) =>
    make("div", {}, make("b", {}, value), make("span", {}, label))));
}

function histogram(title, note, {low, high, counts, count}, neutral) {
  const panel = make("section", {class: "panel"}, make("h2", {}, title));
  if (count === 0) {
    panel.append(make("p", {class: "quiet"}, "nothing to count"));
    return panel;
  }
  const width = 300, height = 120, base = 96, step = width / counts.length;
  // One bar may hold nearly all (R is 0 where no region lies): it is cut, and its share written beside it.
  const order = [...counts].sort((a, b) => b - a), top = order[0] > 4 * order[1] && order[1] > 0 ? 1.6 * order[1] : order[0];
  const svg = makeSvg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title});
  counts.forEach((number, i) => {
    if (number === 0) return;
    const value = low + (high - low) * i / (counts.length - 1), cut = number > top;
    const tall = Math.max(1, (base - 16) * Math.min(1, number / top));
    const bar = makeSvg("rect", {x: i * step + 0.5, y: base - tall, width: step - 1, height: tall,
      fill: colour((value - neutral) / (high - neutral))});
    const tip = makeSvg("title");
    tip.textContent = `${value.toFixed(3)}: ${whole(number)} (${share(number / count)})`;
    bar.append(tip);
    svg.append(bar);
    if (cut) {
      const x = i * step + step / 2, right = x < width * 0.7;
      const label = makeSvg("text", {x: right ? x + step : x - step, y: 22, "text-anchor": right ? "start" : "end"});
      label.textContent = `${share(number / count)}, cut off`;
      svg.append(makeSvg("path", {d: `M${x - 6} 24 l6 -4 l6 4`, fill: "none", stroke: "var(--panel)", "stroke-width": 2.5}), label);
    }
  });
  svg.append(makeSvg("line", {x1: 0, x2: width, y1: base + 0.5, y2: base + 0.5, stroke: "var(--line)"}));
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const text = makeSvg("text", {x: step / 2 + part * (width - step), y: 112, "text-anchor": part === 0 ? "start" : part === 1 ? "end" : "middle"});
    text.textContent = score(low + part * (high - low), high - low === 1 ? 2 : 1);
    svg.append(text);
  }
  panel.append(svg, make("p", {class: "quiet"}, note));
  return panel;
}

function charts() {
  const {region, global, paper, official} = summary.statistics.histograms;
  const tokens = `${summary.pixels_per_token} pixels a token, without rejected candidates`;
  document.getElementById("charts").append(
    histogram("Region scores", `${whole(region.count)} regions`, region, 0),
    histogram("Global scores", `${whole(global.count)} candidates`, global, 0),
    histogram("R over tokens, paper", tokens, paper, 0),
    histogram("R over tokens, official", tokens, official, 0.5));
}

function table(title, heads, lines, {broad = false, note = null} = {}) {
  const cell = (content, column) => make("td", {class: heads[column][1] && "figure"}, content);
  return make("section", {class: broad ? "panel broad" : "panel"}, make("h2", {}, title), lines.length === 0 ?
    make("p", {class: "quiet"}, "none") : make("table", {},
      make("thead", {}, make("tr", {}, heads.map(([name, figure]) => make("th", {scope: "col", class: figure && "figure"}, name)))),
      make("tbody", {}, lines.map((line) => make("tr", {}, line.map(cell))))),
    note && make("p", {class: "quiet"}, note));
}

function tables(choose) {
  const {rejected, problems, categories} = summary.statistics, place = document.getElementById("tables");
  const link = (label, wanted) => make("button", {class: "link", type: "button", onclick: () => choose(wanted)}, label);
  const left = Object.entries(summary.run.left_out).map(([reason, count]) => ["prompts", reason, whole(count)]);
  place.append(table("Rejected, by reason", [["stage"], ["reason"], ["count", true]], [...left,
    ...rejected.map(({stage, reason, count}) => [stage, link(reason, {tag: `rejected:${reason}`}), whole(count)])]));
  place.append(table("Problems with replies", [["problem"], ["count", true]],
    Object.entries(problems).map(([name, count]) => [link(name, {tag: `problem:${name}`}), whole(count)])));
  place.append(table("By category", [["category"], ["candidates", true], ["judged", true], ["rejected", true], ["regions", true],
    ["mean score", true], ["below 0", true], ["mean global", true]], categories.map((line) => [
    link(line.name || "without", {category: line.name || "(none)"}), whole(line.candidates), whole(line.judged), whole(line.rejected),
    whole(line.regions), score(line.region_mean), share(line.negative_regions), score(line.global_mean)]), {broad: true}));
  if (summary.replies.length) place.append(table("Agreement of several replies to one question",
    [["call"], ["questions", true], ["pairs", true], ["mean difference", true], ["correlation", true]],
    summary.replies.map((line) => [line.kind, whole(line.questions), whole(line.count), score(line.mean_difference).replace("+", ""),
      score(line.correlation)]), {note: "Scores as the replies give them; later attempts were told what was missing."}));
  if (summary.compare) place.append(comparison(summary.compare));
}

function comparison({images, region, global: layout, verdicts_equal, boxes_in_both, judge}) {
  const line = (name, {count, mean_difference, correlation}) =>
    [name, whole(count), score(mean_difference).replace("+", ""), score(correlation)];
  const left = [[images.absent, "not in the other run"], [images.other_image, "of another image"], [images.not_judged, "not judged in both"]]
    .filter(([count]) => count > 0).map(([count, why]) => `${whole(count)} ${why}`);
  return table(`Agreement with ${judge ?? "the other run"}`,
    [["score"], ["pairs", true], ["mean difference", true], ["correlation", true]],
    [line("regions on equal boxes", region), line("global", layout)],
    {note: [`${whole(images.compared)} candidates compared`, ...left, `${share(boxes_in_both)} of boxes in both`,
      `verdicts equal on ${share(verdicts_equal)}`].join(" · ")});
}
