/* Requests to the page's own server: the token, and answers that are sent until they are stored. */

export const at = (id) => document.getElementById(id);
const RETRY = 1500; // milliseconds between attempts to reach the server

export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/* The token is in the address's fragment, which browsers do not send. It is kept for this tab. */
let token = sessionStorage.getItem("label-token");

export function takeToken() {
  const given = tokenIn(location.hash);
  if (!given) return false;
  setToken(given);
  history.replaceState(null, "", location.pathname);
  return true;
}

export function setToken(value) {
  token = tokenIn(value) || value.trim();
  sessionStorage.setItem("label-token", token);
}

function tokenIn(address) {
  return /#token=([^#&\s]+)/.exec(address)?.[1];
}

/* Two tabs get different texts. A reload keeps its tab's. */
export const tab = sessionStorage.getItem("label-tab") ?? crypto.getRandomValues(new Uint32Array(2)).join("-");
sessionStorage.setItem("label-tab", tab);

export async function request(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Refusal(0, "The server does not respond.");
  }
  if (response.ok) return response;
  const content = await response.json().catch(() => ({}));
  throw new Refusal(response.status, content.detail ?? `The server responded with status ${response.status}.`);
}

export async function get(path) {
  return (await request(path)).json();
}

export async function post(path, content, how = (response) => response.json(), options = {}) {
  const headers = { "Content-Type": "application/json" };
  return how(await request(path, { ...options, method: "POST", headers, body: JSON.stringify(content) }));
}

/* A closed tab gives its texts back. */
addEventListener("pagehide", () => {
  if (token) post("/api/release", { tab }, () => null, { keepalive: true }).catch(() => {});
});

/* Answers. One that is not confirmed stays in this browser and is sent again, with the same id, so
   that it is stored once, after a reload too. It consists of hashes and labels, without texts. */

let storedAt = "label-pending";
const whenDown = { say: () => {}, lock: () => {} };

export function useProject(project, say, lock) {
  storedAt = `label-pending:${project.id}:${project.annotator ?? ""}`;
  Object.assign(whenDown, { say, lock });
}

function pending() {
  try {
    return JSON.parse(localStorage.getItem(storedAt)) ?? [];
  } catch {
    return [];
  }
}

function keep(answers) {
  if (answers.length) localStorage.setItem(storedAt, JSON.stringify(answers));
  else localStorage.removeItem(storedAt);
}

const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");
const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

/* Resolves when the server has stored the answers. */
export async function answer(answers) {
  keep([...pending(), ...answers.map((one) => ({ ...one, answer_id: newId() }))]);
  return flush();
}

let flushing = null;
export function flush() {
  flushing ??= sendPending().finally(() => (flushing = null));
  return flushing;
}

async function sendPending() {
  let result = null;
  let wasDown = false;
  const problems = [];
  for (;;) {
    const answers = pending();
    if (!answers.length) break;
    try {
      result = await post("/api/answers", { tab, answers });
    } catch (error) {
      if (error.status === 401) {
        whenDown.lock(true);
        await unlocked();
      } else if (error.status === 0 || error.status >= 500 || error.status === 408) {
        wasDown = true;
        whenDown.say("The server does not respond. Your answer is kept here and sent again. If you have stopped the server, start it again.", true);
        await pause(RETRY);
      } else {
        keep([]); // the server will never take it
        throw error;
      }
      continue;
    }
    problems.push(...result.problems);
    const sent = new Set(answers.map((one) => one.answer_id));
    keep(pending().filter((one) => !sent.has(one.answer_id)));
  }
  if (problems.length) whenDown.say(problems.join(" "), true);
  else if (wasDown) whenDown.say("");
  return result;
}

let wake = null;
function unlocked() {
  return new Promise((resolve) => (wake = resolve));
}

export function goOn() {
  wake?.();
  wake = null;
}

/* Elements. Texts enter the page as text only. */

export function element(name, text, ...classes) {
  const made = document.createElement(name);
  made.textContent = text;
  made.classList.add(...classes);
  return made;
}

export function say(where, text, wrong = false) {
  where.textContent = text;
  where.classList.toggle("wrong", wrong);
}

export const count = (n) => n.toLocaleString("en");
export const percent = (p) => `${(100 * p).toFixed(1)}\u00a0%`;
export const range = (low, high) => `${(100 * low).toFixed(1)} to ${percent(high)}`;

const FOLDED = 900; // characters of a long text that are shown at first

/* Show a text; return a function that unfolds it, or null if it is short. */
export function showText(where, text, button) {
  const letters = Array.from(text.slice(0, 4 * FOLDED));
  const isLong = letters.length > FOLDED * 1.25;
  const short = isLong ? letters.slice(0, FOLDED).join("").replace(/\s\S*$/, "") + " …" : text;
  where.textContent = text === "" ? "(empty text)" : short;
  where.classList.toggle("soft", text === "");
  button.hidden = !isLong;
  const toggle = () => {
    const open = button.ariaExpanded !== "true";
    button.ariaExpanded = String(open);
    where.textContent = open ? text : short;
    button.replaceChildren(open ? "Show less" : `Show all ${count(Array.from(text).length)} characters`);
  };
  button.ariaExpanded = "true";
  if (isLong) toggle();
  button.onclick = toggle;
  return isLong ? toggle : null;
}

/* The digit of a key, also where digits need Shift (as on French keyboards). */
export function digitOf(event) {
  if (/^[0-9]$/.test(event.key)) return event.key;
  const code = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
  return code && !event.shiftKey && !/^[\p{L}]$/u.test(event.key) ? code[1] : null;
}
