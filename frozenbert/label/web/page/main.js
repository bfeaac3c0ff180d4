/* The page of a labelling session. It sends requests to its own server only. */

import { at, element, flush, get, goOn, say, setToken, takeToken, useProject } from "/label/client.js";
import { Labelling } from "/label/labelling.js";
import { Checking, Grouping } from "/label/reviewing.js";
import { openFinish, openProgress, prepareFinish } from "/label/results.js";

let project = null;
let views = null;
let shown = "label";

function announce(text, visible = false) {
  at("live").textContent = text;
  if (visible) notice(text);
}

function notice(text, wrong = false) {
  at("notice").hidden = !text;
  say(at("notice"), text, wrong);
}

function fail(error) {
  if (error.status === 401) lock(true);
  else if (error.status !== undefined) notice(error.message, true);
  else throw error;
}

function lock(wasOpen = false) {
  if (wasOpen) {
    say(at("door-why"), "This page’s token is of an earlier start of the command, or wrong. Open the address that the terminal printed last, or paste it here. Your last answer is kept here until then.");
  }
  at("door").hidden = false;
  at("main").hidden = at("views").hidden = true;
  at("token").focus();
}

function unlock() {
  at("door").hidden = true;
  at("main").hidden = at("views").hidden = false;
}

async function go(name) {
  shown = name;
  for (const section of document.querySelectorAll("#main > section")) section.hidden = section.id !== `view-${name}`;
  for (const button of document.querySelectorAll("[data-view]")) {
    if (button.dataset.view === name) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  notice("");
  document.title = `${project.title}: ${name}`;
  const heading = at(`h-${name}`);
  if (name !== "label") heading.focus();
  try {
    await views[name].open();
  } catch (error) {
    fail(error);
  }
}

function keysHelp() {
  const few = project.labels.length <= 9;
  const rows = few
    ? [[project.labels.length === 2 ? "1, 2" : `1 to ${project.labels.length}`, "take this label"]]
    : [["letters", "filter the labels; Enter takes the first"], ["1, 2, 3", "take the model’s guess"]];
  if (project.multi_label) rows.push(["Enter", "store the chosen labels, and go to the next text"]);
  rows.push(["0", "skip"], ["Ctrl Z", "undo"]);
  if (few) rows.push(["S, U", "skip, undo"], ["M", "show all of a long text"], ["G", "show the model’s guess"]);
  rows.push(["Enter", "when checking: keep as it is"], ["Space, ↑, ↓", "in groups: tick a text, go to another"], ["?", "this list"]);
  at("keys").replaceChildren(...rows.flatMap(([key, does]) => [element("dt", key), element("dd", does)]));
  const described = project.labels.filter((label) => label.description);
  at("help-labels").replaceChildren();
  if (!described.length) return;
  const list = document.createElement("dl");
  for (const label of described) list.append(element("dt", label.name), element("dd", label.description));
  at("help-labels").append(element("h3", "Labels"), list);
}

const usesKeys = () => localStorage.getItem("label-keys") !== "no";

addEventListener("keydown", (event) => {
  if (!project || event.isComposing || event.repeat || at("help").open || !at("door").hidden) return;
  const { target } = event;
  const view = views[shown];
  const inFilter = target.id?.startsWith("filter-");
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !event.shiftKey && !event.altKey) {
    if (inFilter && target.value) return;
    if (view.undo) {
      event.preventDefault();
      view.undo();
    }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isField = target.matches("input:not([type=checkbox]), select, textarea") && !inFilter;
  if (isField) return;
  const pressesTarget = (event.key === "Enter" || event.key === " ") && target.closest("button, a, summary, .switch");
  if (pressesTarget) return;
  if (!usesKeys() && !(inFilter && (event.key === "Enter" || event.key === "Escape"))) return;
  if (event.key === "?") {
    event.preventDefault();
    at("help").showModal();
  } else if (view.key?.(event)) event.preventDefault();
});

// Browsers tick a box when Space is released; the view has done so already.
addEventListener("keyup", (event) => {
  if (event.key === " " && usesKeys() && event.target.closest?.("#groups-texts")) event.preventDefault();
});

for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => go(button.dataset.view));
}
at("help-button").addEventListener("click", () => at("help").showModal());
at("single-keys").checked = usesKeys();
at("single-keys").addEventListener("change", () => localStorage.setItem("label-keys", at("single-keys").checked ? "yes" : "no"));

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(at("token").value);
  at("token").value = "";
  start();
});

// The address of a new start, pasted into a tab of the last one, changes its fragment alone.
addEventListener("hashchange", () => {
  if (takeToken()) start();
});

async function start() {
  let found;
  try {
    found = await get("/api/project");
  } catch (error) {
    if (error.status === 401) lock(Boolean(sessionStorage.getItem("label-token")));
    else {
      notice(error.message, true);
      setTimeout(start, 2000);
    }
    return;
  }
  notice("");
  unlock();
  const isNew = project?.id !== found.id || project?.annotator !== found.annotator;
  if (!isNew) {
    goOn();
    await views[shown].open();
    return;
  }
  if (project) {
    location.reload(); // another project, or another person
    return;
  }
  project = found;
  at("name").textContent = project.title;
  at("who").hidden = !project.annotator;
  at("who").textContent = project.annotator ?? "";
  useProject(project, notice, lock);
  keysHelp();
  const tools = { announce, fail, go };
  const labelling = new Labelling(project, tools);
  views = {
    label: labelling,
    check: new Checking(project, tools),
    groups: new Grouping(project, tools),
    progress: { open: () => openProgress(project) },
    finish: { open: openFinish },
  };
  const refresh = async () => labelling.showProgress(await get("/api/progress"));
  prepareFinish({ fail, refresh });
  try {
    await flush(); // what an earlier visit could not send
    await refresh();
  } catch (error) {
    fail(error);
  }
  await go("label");
}

takeToken();
start();
