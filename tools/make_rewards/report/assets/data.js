// What the page holds: elements of JSON text, read when they are needed. See page.py for their names.

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
