/* The page. It sends requests to its own service only, and inserts texts as text only. */

const at = (id) => document.getElementById(id);
const PAUSE = 350; // milliseconds without input before a request
const SHOWN = 8; // labels; the others are collapsed

let card = null;
let token = sessionStorage.getItem("token");
let asked = null; // the pending request
let explaining = null;
let shown = null; // the text of the answer on display

class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function request(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The service does not respond.");
  }
  if (response.ok) return response;
  const content = await response.json().catch(() => ({}));
  if (response.status === 401) lock();
  throw new Refusal(response.status, content.detail ?? `The service responded with status ${response.status}.`);
}

async function post(path, content, signal) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, signal };
  return (await request(path, { ...options, body: JSON.stringify(content) })).json();
}

const percent = (p) => `${(100 * p).toFixed(1)} %`;

function element(name, text, ...classes) {
  const made = document.createElement(name);
  made.textContent = text;
  made.classList.add(...classes);
  return made;
}

function say(where, text, wrong = false) {
  where.textContent = text;
  where.classList.toggle("wrong", wrong);
}

/* One text, or one record of a model that reads columns */

let timer = null;
at("fields").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(answer, PAUSE);
});

const hasColumns = () => Object.keys(card.columns).length > 0;
const HINTS = { number: "a number", category: "a category", date: "a date, such as 2026-01-31" };

/* Show a field for each column in place of the one for the text. */
function addFields() {
  if (!hasColumns() || at("fields").querySelector("[name]")) return;
  at("fields").replaceChildren();
  Object.entries(card.columns).forEach(([name, kind], i) => {
    const field = document.createElement(kind === "text" ? "textarea" : "input");
    field.id = `field-${i}`;
    field.name = name;
    if (kind === "text") field.rows = 4;
    else field.autocomplete = "off";
    field.placeholder = HINTS[kind] ?? "Type or paste a text; the answer appears when you pause.";
    const label = element("label", name);
    label.htmlFor = field.id;
    at("fields").append(label, field);
  });
  at("try").textContent = "Try a row";
  at("fields").append(element("p", "An empty field is a missing value.", "soft"));
  at("choice").hidden = at("explain").hidden = true;
  at("rows").placeholder = Object.keys(card.columns).join(",");
}

const cells = () => Object.fromEntries([...at("fields").querySelectorAll("[name]")].map((field) => [field.name, field.value.trim() ? field.value : null]));

async function answer() {
  const record = hasColumns() ? cells() : null;
  const text = record ? Object.values(record).join("") : at("text").value;
  asked?.abort();
  explaining?.abort();
  shown = null;
  at("explained").hidden = true;
  if (!text.trim()) {
    say(at("answer"), "");
    at("bars").replaceChildren();
    at("more").hidden = at("why").hidden = true;
    return;
  }
  const mine = (asked = new AbortController());
  try {
    show(text, await post("/predict", record ? { records: [record] } : { texts: [text] }, mine.signal));
  } catch (error) {
    if (mine.signal.aborted) return;
    at("why").hidden = true;
    say(at("answer"), error.message, true);
    if (error.status === 503) timer = setTimeout(answer, 1000);
  }
}

function show(text, result) {
  shown = text;
  const chosen = [result.predictions[0]].flat();
  const shortened = (answer) => (Number.isFinite(answer) ? String(Number(answer.toFixed(4))) : String(answer));
  const names = chosen.map(shortened).join(", ") || "no label";
  const p = result.probabilities?.[0];
  const likeliest = p && Math.max(...p);
  // The grade of an ordinal model need not be the most probable one.
  say(at("answer"), card.many_labels || !p || card.task !== "classification" ? `Answer: ${names}` : `Answer: ${names}, ${percent(likeliest)}`);
  at("why").hidden = !p;
  const rows = result.labels.map((label, i) => ({ label, p: p?.[i] ?? 0, chosen: chosen.includes(label) }));
  const many = rows.length > SHOWN;
  if (many) rows.sort((a, b) => b.p - a.p);
  draw(at("bars"), p ? rows.slice(0, SHOWN) : []);
  draw(at("rest"), p ? rows.slice(SHOWN) : []);
  at("more").hidden = !many || !p;
}

function draw(list, rows) {
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach((row, i) => {
    if (!list.children[i]) {
      const item = element("li", "");
      const track = element("span", "", "track");
      track.ariaHidden = "true";
      track.append(element("div", "", "bar"));
      item.append(element("span", "", "label"), track, element("span", "", "number"));
      list.append(item);
    }
    const [label, track, number] = list.children[i].children;
    label.textContent = (row.chosen && card.many_labels ? "✓ " : "") + row.label;
    label.classList.toggle("chosen", row.chosen);
    track.firstChild.style.width = percent(row.p).replace(" ", "");
    number.textContent = percent(row.p);
  });
}

at("explain").addEventListener("click", async () => {
  const text = shown;
  if (text === null) return;
  explaining?.abort();
  const mine = (explaining = new AbortController());
  try {
    explain(text, await post("/explain", { text }, mine.signal));
  } catch (error) {
    if (mine.signal.aborted) return;
    at("words").replaceChildren();
    at("table").replaceChildren();
    say(at("note"), error.message, true);
    at("explained").hidden = false;
  }
});

function explain(text, result) {
  if (!result.words.length) {
    at("words").replaceChildren();
    at("table").replaceChildren();
    at("words").hidden = at("table").closest("details").hidden = true;
    at("explained").hidden = false;
    say(at("note"), "No single words explain this answer: it hardly changes without the strongest ones.");
    return;
  }
  at("words").hidden = at("table").closest("details").hidden = false;
  const largest = Math.max(...result.words.map((word) => Math.abs(word.weight)), 1e-9);
  const letters = Array.from(text); // positions count characters, as in Python
  const parts = [];
  const rows = [];
  let place = 0;
  for (const word of result.words) {
    const end = word.start + Array.from(word.word).length;
    parts.push(letters.slice(place, word.start).join(""));
    const points = `${word.weight < 0 ? "−" : "+"}${Math.abs(100 * word.weight).toFixed(1)}`;
    const mark = element("mark", word.word);
    mark.title = `${points} points`;
    const strength = Math.abs(word.weight) / largest;
    if (strength > 0.1) {
      mark.classList.add(word.weight > 0 ? "plus" : "minus");
      mark.style.setProperty("--strength", strength.toFixed(2));
    }
    parts.push(mark);
    const row = document.createElement("tr");
    row.append(element("td", word.word), element("td", points, "n"));
    rows.push([Math.abs(word.weight), row]);
    place = end;
  }
  parts.push(letters.slice(place).join(""));
  at("words").replaceChildren(...parts);
  at("table").replaceChildren(...rows.sort((a, b) => b[0] - a[0]).map(([, row]) => row));
  const left = result.n_words - result.words.length;
  const note =
    `Solid lines: the word speaks for “${result.label}”. Dotted lines: against it. ` +
    `Without the strongest words it has ${percent(result.without)}.` +
    (left > 0 ? ` The ${left} words after the first ${result.words.length} are not tried.` : "");
  at("explained").hidden = false;
  say(at("note"), note);
}

/* A table */

const drop = at("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  drop.addEventListener(kind, () => drop.classList.remove("over"));
}
// Dropped elsewhere, a file would replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
drop.addEventListener("drop", (event) => {
  if (event.dataTransfer.files.length) label(event.dataTransfer.files[0]);
});
at("file").addEventListener("change", () => {
  if (at("file").files.length) label(at("file").files[0]);
});
at("label").addEventListener("click", () => {
  const rows = at("rows").value;
  const kind = rows.split("\n", 1)[0].includes("\t") ? "tsv" : "csv"; // rows from a spreadsheet are tsv
  if (rows.trim()) label(new File([rows], `rows.${kind}`));
});

let working = null;
at("stop").addEventListener("click", () => working?.abort());

async function label(file) {
  working?.abort();
  const mine = (working = new AbortController());
  const link = at("download");
  link.hidden = true;
  if (link.href) URL.revokeObjectURL(link.href);
  say(at("table-answer"), "");
  at("chosen").textContent = file.name;
  at("done").textContent = "Sending …";
  at("progress").removeAttribute("value");
  at("work").hidden = false;
  try {
    const { content, total } = await labelled(file, mine.signal);
    link.href = URL.createObjectURL(content);
    const ending = content.type.startsWith("text/tab") ? "tsv" : "csv";
    link.download = `${file.name.replace(/\.[^.]*$/, "")}-labelled.${ending}`;
    link.textContent = `Download ${link.download}`;
    link.hidden = false;
    say(at("table-answer"), `${total.toLocaleString("en")} rows labelled.`);
  } catch (error) {
    if (working !== mine) return;
    say(at("table-answer"), mine.signal.aborted ? "Stopped." : error.message, !mine.signal.aborted);
  } finally {
    if (working === mine) {
      const focused = document.activeElement === at("stop");
      at("work").hidden = true;
      if (focused) at("table-answer").focus();
    }
    at("file").value = "";
  }
}

async function labelled(file, signal) {
  const limit = card.limits.body;
  if (file.size > limit) {
    throw new Refusal(413, `${file.name} is larger than ${limit.toLocaleString("en")} bytes: send it in parts.`);
  }
  const query = new URLSearchParams();
  if (at("column").value) query.set("text_column", at("column").value);
  if (at("delimiter").value) query.set("delimiter", at("delimiter").value);
  const kind = /\.tsv$/i.test(file.name) ? "text/tab-separated-values" : "text/csv";
  const options = { method: "POST", headers: { "Content-Type": kind }, body: file, signal };
  const response = await request(`/predict.csv?${query}`, options);
  const total = Number(response.headers.get("X-Rows"));
  const parts = [];
  let rows = -1; // without the header
  let quoted = false;
  const reader = response.body.getReader();
  const cut = () => new Refusal(0, `The answer ended after ${Math.max(rows, 0)} of ${total} rows; try again.`);
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw signal.aborted ? error : cut();
    });
    if (done) break;
    parts.push(value);
    for (const byte of value) {
      if (byte === 0x22) quoted = !quoted;
      else if (byte === 0x0a && !quoted) rows += 1;
    }
    at("progress").value = rows / total;
    at("done").textContent = `${Math.max(rows, 0).toLocaleString("en")} of ${total.toLocaleString("en")} rows`;
  }
  if (rows !== total) throw cut();
  return { content: new Blob(parts, { type: response.headers.get("Content-Type") }), total };
}

/* The model, and the token */

function lock() {
  at("door").hidden = false;
  at("main").hidden = true;
  at("token").focus();
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  sessionStorage.setItem("token", token);
  start();
});

function fact(name, value) {
  if (value === null || value === undefined || value === "") return;
  at("card").append(element("dt", name), element("dd", value));
}

async function start() {
  at("answer").textContent = "";
  try {
    card = await (await request("/model")).json();
  } catch (error) {
    say(at("about"), error.message, true);
    if (error.status !== 401) setTimeout(start, 3000);
    return;
  }
  at("door").hidden = true;
  at("main").hidden = false;
  say(at("about"), "Text classification with a frozen encoder.");
  document.title = `${card.title}: frozenbert`;
  at("name").textContent = card.title;
  const { encoder, figures } = card;
  const labels = card.labels.map(String);
  const count = (n) => n?.toLocaleString("en");
  const against = (name) =>
    figures[name] === undefined
      ? null
      : figures[name].toFixed(3) +
        (figures[`baseline_${name}`] ? ` (TF-IDF baseline: ${figures[`baseline_${name}`].toFixed(3)})` : "");
  at("card").replaceChildren();
  fact("labels", labels.slice(0, 40).join(", ") + (labels.length > 40 ? " …" : ""));
  fact("encoder", encoder && `${encoder.name}, ${encoder.pooling.join(" + ")} of layer${encoder.layers.length > 1 ? "s" : ""} ${encoder.layers.join(", ")}, ${encoder.precision}`);
  fact("trained on", card.data && `${card.data}, ${count(figures.n_train)} rows`);
  fact("tested on", card.tested_on && `${card.tested_on}, ${count(figures.n_test)} rows`);
  fact(card.many_labels ? "subset accuracy" : "accuracy", against("accuracy"));
  fact("macro F1", against("macro_f1"));
  fact("quadratic kappa", against("quadratic_kappa"));
  fact("R²", against("r2"));
  fact("mean absolute error", against("mae"));
  fact("created", card.created?.slice(0, 10));
  fact("file", card.file + (card.file.endsWith(".skops") ? " (safe form)" : ""));
  if (!card.probabilities) at("explain").hidden = true;
  addFields();
  if (hasColumns() || at("text").value) answer();
}

start();
