// Pictures with boxes or reward maps over them.

const GREY = [138, 138, 134], PLUS = [26, 98, 178], MINUS = [204, 78, 20]; // told apart by colour-blind eyes too
const SHOWS = [["none", "Image"], ["boxes", "Boxes"], ["paper", "R, paper"], ["official", "R, official"]];
const RANGES = {paper: [-1, 0, 1], official: [0, 0.5, 1]}; // least, neutral, most

function mix(value) { // value in [-1, 1]
  const end = value < 0 ? MINUS : PLUS, part = Math.min(1, Math.abs(value)) ** 0.6;
  return GREY.map((channel, i) => Math.round(channel + part * (end[i] - channel)));
}
const colour = (value) => value === null || value === undefined ? "#6b7078" : `rgb(${mix(value).join(",")})`;

// The picture of a row in its own shape, as large as its stage; overlays are children of the frame.
function frame(row, source) {
  const element = make("div", {class: "frame"});
  element.style.aspectRatio = `${row.width} / ${row.height}`;
  element.style.width = `min(100cqw, ${100 * row.width / row.height}cqh)`;
  element.append(source === null
    ? make("div", {class: "nothing"}, row.note ?? "no picture")
    : make("img", {src: source, alt: row.prompt, decoding: "async", class: Math.max(row.width, row.height) <= 128 && "tiny"}));
  return element;
}

function overlay(row, show, onRegion) {
  if (show === "boxes") return boxes(row, onRegion);
  if (show !== "paper" && show !== "official") return null;
  const map = more(row).maps?.[show];
  return map ? drawMap(decodeMap(map), show) : null;
}

function boxes(row, onRegion) {
  const regions = row.regions ?? (row.proposals ?? []).map((box) => ({box}));
  const svg = makeSvg("svg", {viewBox: `0 0 ${row.width} ${row.height}`, preserveAspectRatio: "none"});
  const unit = Math.max(row.width, row.height) / 100;
  const shapes = regions.map((region, number) => {
    const [x0, y0, x1, y1] = region.box, ink = colour(region.score);
    const place = {x: x0, y: y0, width: x1 - x0, height: y1 - y0};
    const size = onRegion ? 3.6 * unit : 6.4 * unit, label = String(number + 1), wide = size * (0.75 + 0.5 * label.length);
    const left = Math.min(Math.max(0, x0), row.width - wide), above = Math.min(Math.max(0, y0), row.height - size * 1.25);
    const tag = makeSvg("text", {class: "tag", x: left + wide / 2, y: above + size * 0.65, "font-size": size});
    tag.textContent = label;
    const group = makeSvg("g", {class: "region", "data-number": number},
      makeSvg("rect", {...place, class: "halo"}), makeSvg("rect", {...place, class: "edge", stroke: ink}),
      makeSvg("rect", {x: left, y: above, width: wide, height: size * 1.25, rx: size * 0.2, fill: ink}), tag);
    if (onRegion) {
      const title = makeSvg("title");
      title.textContent = [region.object, region.keyword && `keyword: ${region.keyword}`, region.verdict,
        "score" in region ? `score ${score(region.score)} (raw ${score(region.raw)})` : "not judged",
        region.severity ? `severity ${region.severity}` : "", (region.flags ?? []).join(", "),
        region.reason].filter(Boolean).join("\n");
      group.append(title);
      group.addEventListener("mouseenter", () => onRegion(number, false));
      group.addEventListener("click", () => onRegion(number, true));
    }
    return group;
  });
  // Small boxes last, so that larger ones do not cover them.
  const area = (region) => (region.box[2] - region.box[0]) * (region.box[3] - region.box[1]);
  svg.append(...shapes.map((shape, i) => [shape, area(regions[i])]).sort((a, b) => b[1] - a[1]).map(([shape]) => shape));
  return svg;
}

function drawMap(values, show) {
  const [low, neutral, high] = RANGES[show], canvas = make("canvas", {width: values[0].length, height: values.length});
  const context = canvas.getContext("2d"), image = context.createImageData(values[0].length, values.length);
  values.flat().forEach((value, i) => {
    const deviation = value < neutral ? (value - neutral) / (neutral - low) : (value - neutral) / (high - neutral);
    image.data.set([...mix(deviation), Math.round(255 * (0.28 + 0.5 * Math.abs(deviation)))], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

function scale() { // colours from -1 to 1
  const canvas = make("canvas", {width: 101, height: 1, "aria-hidden": "true"}), context = canvas.getContext("2d");
  for (let i = 0; i <= 100; i++) {
    context.fillStyle = colour(i / 50 - 1);
    context.fillRect(i, 0, 1, 1);
  }
  return canvas;
}

function switchOf(name, chosen, onChange) {
  return SHOWS.map(([value, label]) => make("label", {}, make("input", {
    type: "radio", name, value, checked: value === chosen, onchange: () => onChange(value),
  }), make("span", {}, label)));
}
