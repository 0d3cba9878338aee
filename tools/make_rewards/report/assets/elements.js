// Elements, and how numbers are written. The same for every page.

const read = (id) => JSON.parse(document.getElementById(id).textContent);

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
