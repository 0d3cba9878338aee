// What the page holds: elements of JSON text, read when they are needed. See page.py for their names.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const summary = read("summary-data");
const rows = Array.from({length: summary.records}, (_, number) => {
  const row = read(`row-${number}`);
  const scores = (row.regions ?? []).map((region) => region.score);
  const texts = [row.prompt, row.id, row.global?.reason, row.rejected?.detail,
    ...(row.regions ?? []).flatMap((region) => [region.object, region.keyword, region.reason])];
  return {
    ...row, number, text: texts.filter(Boolean).join("\n").toLowerCase(),
    mean: scores.length ? scores.reduce((a, b) => a + b, 0) / scores.length : null,
    worst: scores.length ? Math.min(...scores) : null,
    layout: row.global?.score ?? null,
  };
});
const more = (row) => read(`more-${row.number}`);
const picture = (row) => document.getElementById(`picture-${row.number}`)?.textContent ?? null;

// Rows of values from runs; the inverse of maps.encode.
function decodeMap(encoded) {
  return encoded.rows.flatMap(([count, ...runs]) => {
    const row = [];
    for (let i = 0; i < runs.length; i += 2) row.push(...Array(runs[i]).fill(encoded.values[runs[i + 1]]));
    return Array(count).fill(row);
  });
}

// Texts of the run only ever become text nodes and attribute values, never markup.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function score(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  const number = Math.abs(value).toFixed(digits);
  return (Number(number) === 0 ? "" : value > 0 ? "+" : "−") + number;
}
const share = (value) => value === null || value === undefined ? "–" : `${(100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %`;
const whole = (value) => value.toLocaleString("en");
const sign = (value) => value >= 0.005 ? "plus" : value <= -0.005 ? "minus" : "";
const signed = (value, digits) => make("b", {class: `number ${sign(value)}`}, score(value, digits));
