/* How far the labels are, the final model, and files. */

import { at, count, element, get, percent, post, range, request, say } from "/label/client.js";

const SVG = "http://www.w3.org/2000/svg";

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function facts(list, rows) {
  list.replaceChildren(
    ...rows.flatMap(([name, value]) => {
      const about = element("dd", value);
      about.dir = "auto";
      return [element("dt", name), about];
    }),
  );
}

export async function openProgress(project) {
  const progress = await get("/api/progress");
  const { estimate } = progress;
  facts(
    at("facts"),
    [
      ["texts", `${count(progress.n_texts)}, of which ${count(progress.n_labelled)} are labelled and ${count(progress.n_skipped)} skipped`],
      progress.n_removed && ["removed", `${count(progress.n_removed)} labelled texts are no longer in the table; their labels are kept`],
      [
        "accuracy on all texts",
        estimate
          ? `about ${percent(estimate.value)}, 95 % interval ${range(estimate.low, estimate.high)}; from ${count(estimate.n)} texts chosen at random and mixed into the queue`
          : "not known yet: it needs labelled texts of the random sample, which is mixed into the queue",
      ],
      progress.agreement !== null && ["agreement", `${progress.agreement.toFixed(2)} (Krippendorff’s alpha, of texts with two annotators or more)`],
      progress.learns && progress.n_vectors < progress.n_texts && ["vectors", `${count(progress.n_vectors)} of ${count(progress.n_texts)} are computed; the rest follow in the background`],
    ].filter(Boolean),
  );
  say(at("progress-advice"), progress.problem ? `The model does not learn any more; texts come at random. ${progress.problem}` : progress.advice, Boolean(progress.problem));
  drawCurve(progress.curve);
  const most = Math.max(...Object.values(progress.per_label), 1);
  at("per-label").replaceChildren(
    ...project.labels.map(({ name }) => {
      const n = progress.per_label[name] ?? 0;
      const item = element("li", "");
      const label = element("span", name, "label");
      label.dir = "auto";
      const track = element("span", "", "track");
      track.ariaHidden = "true";
      const bar = element("div", "", "bar");
      bar.style.width = `${(100 * n) / most}%`;
      track.append(bar);
      item.append(label, track, element("span", count(n), "number"));
      return item;
    }),
  );
}

function drawCurve(points) {
  at("curve-more").hidden = points.length === 0;
  at("curve-table").replaceChildren(
    ...points.map((point) => {
      const row = document.createElement("tr");
      row.append(
        element("td", count(point.n), "n"),
        element("td", percent(point.accuracy), "n"),
        element("td", range(point.low, point.high), "n"),
      );
      return row;
    }),
  );
  if (points.length < 2) {
    at("curve").replaceChildren(element("p", "The curve begins after a few more labels.", "soft"));
    return;
  }
  const width = Math.max(at("curve").clientWidth, 280); // one unit is one pixel
  const [height, left, bottom, top, right] = [Math.min(300, 0.7 * width), 52, 36, 12, 18];
  const last = points.at(-1).n;
  const lowest = Math.floor(10 * Math.min(...points.map((point) => point.low))) / 10;
  const x = (n) => left + ((width - left - right) * (n - points[0].n)) / (last - points[0].n);
  const y = (p) => top + ((height - top - bottom) * (1 - p)) / (1 - lowest || 1);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const end = points.at(-1);
  svg.setAttribute("aria-label", `Accuracy from ${percent(points[0].accuracy)} with ${points[0].n} labels to ${percent(end.accuracy)} with ${end.n}; 95 % interval ${range(end.low, end.high)}`);
  const steps = Math.round((1 - lowest) * 10) > 5 ? 2 : 1;
  for (let tenth = Math.round(lowest * 10); tenth <= 10; tenth += steps) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(tenth / 10), y2: y(tenth / 10) }));
    svg.append(shape("text", { x: left - 8, y: y(tenth / 10) + 4, "text-anchor": "end" }, `${10 * tenth} %`));
  }
  const band = [...points.map((p) => [p.n, p.high]), ...points.toReversed().map((p) => [p.n, p.low])];
  svg.append(shape("polygon", { class: "band", points: band.map(([n, p]) => `${x(n)},${y(p)}`).join(" ") }));
  svg.append(shape("polyline", { class: "line", points: points.map((p) => `${x(p.n)},${y(p.accuracy)}`).join(" ") }));
  for (const p of points) svg.append(shape("circle", { class: "dot", cx: x(p.n), cy: y(p.accuracy), r: 3 }));
  svg.append(shape("text", { x: left, y: height - 10 }, `${count(points[0].n)} labels`));
  svg.append(shape("text", { x: width - right, y: height - 10, "text-anchor": "end" }, `${count(last)} labels`));
  at("curve").replaceChildren(svg);
}

/* The final model */

let polling = null;

export function prepareFinish({ fail, refresh }) {
  at("train").addEventListener("click", async () => {
    try {
      showFinal(await post("/api/final", {}));
    } catch (error) {
      say(at("train-status"), error.message, true);
      fail(error);
    }
  });
  for (const button of document.querySelectorAll("[data-format]")) {
    button.addEventListener("click", () => download(button.dataset.format).catch((error) => {
      say(at("file-status"), error.message, true);
      fail(error);
    }));
  }
  at("import-file").addEventListener("change", async () => {
    const [file] = at("import-file").files;
    if (!file) return;
    try {
      say(at("file-status"), `Reading ${file.name} …`);
      const { n } = await post("/api/import", { format: at("import-format").value, content: await file.text() });
      say(at("file-status"), `${count(n)} labels taken from ${file.name}.`);
      refresh();
    } catch (error) {
      say(at("file-status"), error.message, true);
      fail(error);
    }
    at("import-file").value = "";
  });
}

export async function openFinish() {
  showFinal(await get("/api/final"));
}

function showFinal(state) {
  clearTimeout(polling);
  at("train").disabled = state.status === "running";
  const words = {
    idle: "",
    running: "Training … This takes a minute or so. Labelling can go on meanwhile.",
    done: "Done. The files are in the project’s folder:",
    failed: state.problem,
  };
  say(at("train-status"), words[state.status], state.status === "failed");
  facts(at("train-facts"), state.status === "done" ? state.facts : []);
  if (state.status === "running") polling = setTimeout(() => openFinish().catch(() => (polling = setTimeout(openFinish, 3000))), 1000);
}

async function download(format) {
  const response = await post("/api/export", { format }, (answer) => answer);
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "")?.[1] ?? "labelled.csv";
  const link = element("a", "");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  say(at("file-status"), `${name} is downloaded.`);
}
