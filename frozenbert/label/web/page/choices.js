/* The labels to choose from: up to nine have a key each, more are filtered by typing. */

import { digitOf, element } from "/label/client.js";

const KEYS = 9;
let made = 0;

const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

function labelButton(key, { name, description }) {
  const button = element("button", "");
  button.type = "button";
  if (key) {
    button.append(element("kbd", key));
    button.setAttribute("aria-keyshortcuts", key);
  }
  const text = element("bdi", name);
  text.dir = "auto";
  button.append(text);
  if (description) button.append(element("small", description));
  return button;
}

export class Choices {
  /* `onChange(labels)` is called with the chosen labels: of many, after each change. */
  constructor(root, labels, { many, onChange, say }) {
    this.root = root;
    this.labels = labels;
    this.many = many; // labels for one text
    this.onChange = onChange;
    this.say = say ?? (() => {});
    this.chosen = new Set();
    this.filtered = labels.length > KEYS;
    this.list = element("ul", "", "options");
    this.list.ariaLabel = "Labels";
    root.setAttribute("role", "group");
    root.ariaLabel = many ? "Labels; several can be chosen" : "Labels";
    root.replaceChildren();
    if (this.filtered) this.#addFilter();
    root.append(this.list);
    this.#draw();
  }

  #addFilter() {
    this.guesses = element("ul", "", "options");
    this.guesses.ariaLabel = "The model’s guesses";
    this.input = element("input", "");
    this.input.id = `filter-${(made += 1)}`;
    this.input.autocomplete = "off";
    this.input.spellcheck = false;
    const label = element("label", "Type letters to filter the labels; Enter takes the first");
    label.htmlFor = this.input.id;
    this.input.addEventListener("input", () => {
      this.#draw();
      const first = this.list.querySelector("bdi")?.textContent;
      this.say(this.input.value ? (first ? `Enter takes ${first}.` : "No such label.") : "");
    });
    this.root.append(this.guesses, label, this.input);
  }

  /* Show the choices of a new text. */
  show(guesses, chosen = []) {
    this.chosen = new Set(chosen);
    if (this.filtered) {
      this.input.value = "";
      this.guessed = guesses.slice(0, 3).map((guess) => guess.label);
      const known = new Map(this.labels.map((label) => [label.name, label]));
      this.#fill(this.guesses, this.guessed.map((name, i) => [String(i + 1), known.get(name) ?? { name }]));
    }
    this.#draw();
  }

  focus() {
    if (this.filtered && matchMedia("(pointer: fine)").matches) this.input.focus({ preventScroll: true });
  }

  #draw() {
    if (!this.filtered) {
      this.#fill(this.list, this.labels.map((label, i) => [String(i + 1), label]));
      return;
    }
    const asked = folded(this.input.value.trim());
    const starts = this.labels.filter((label) => folded(label.name).startsWith(asked));
    const holds = this.labels.filter((label) => !starts.includes(label) && folded(label.name).includes(asked));
    this.#fill(this.list, [...starts, ...holds].map((label) => ["", label]));
    if (asked) this.list.querySelector("button")?.classList.add("first");
  }

  #fill(list, rows) {
    const names = rows.map(([key, label]) => key + label.name).join("\n");
    if (list.dataset.names !== names) {
      list.dataset.names = names; // the same buttons stay, and keep the focus
      list.replaceChildren(
        ...rows.map(([key, label]) => {
          const item = document.createElement("li");
          const button = labelButton(key, label);
          button.dataset.label = label.name;
          button.addEventListener("click", () => this.choose(label.name));
          item.append(button);
          return item;
        }),
      );
    }
    for (const button of list.querySelectorAll("button")) {
      button.classList.remove("first");
      if (this.many) button.ariaPressed = String(this.chosen.has(button.dataset.label));
    }
  }

  choose(name) {
    if (!this.many) {
      this.onChange([name]);
      return;
    }
    if (!this.chosen.delete(name)) this.chosen.add(name);
    if (this.filtered) {
      this.input.value = "";
      this.show((this.guessed ?? []).map((label) => ({ label })), this.chosen);
    } else this.#draw();
    this.say(`${name} ${this.chosen.has(name) ? "chosen" : "removed"}.`);
    this.onChange([...this.chosen]);
  }

  /* Take a key; return whether it was one of ours. */
  key(event) {
    const digit = digitOf(event);
    if (digit && digit !== "0") {
      const names = this.filtered ? this.guessed : this.labels.map((label) => label.name);
      const name = names?.[digit - 1];
      if (name !== undefined) this.choose(name);
      return name !== undefined || this.filtered;
    }
    if (!this.filtered) return false;
    if (event.key === "Enter" && this.input.value.trim()) {
      const first = this.list.querySelector("button");
      if (first) this.choose(first.dataset.label);
      return true;
    }
    if (event.key === "Escape" && this.input.value) {
      this.input.value = "";
      this.#draw();
      return true;
    }
    // A letter typed anywhere goes into the filter.
    if (event.key.length === 1 && event.key !== " " && event.key !== "?" && document.activeElement !== this.input) {
      this.input.focus({ preventScroll: true });
    }
    return false;
  }
}
