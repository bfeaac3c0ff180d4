/* Labels to check, and groups of like texts to label together. */

import { answer, at, count, digitOf, element, get, post, say, showText } from "/label/client.js";
import { Choices } from "/label/choices.js";

function textBlock(item, withLabels) {
  const block = element("article", "", "item");
  const text = element("p", "", "text");
  text.dir = "auto";
  const more = element("button", "", "plain");
  more.type = "button";
  showText(text, item.text, more);
  block.append(text, more);
  if (withLabels) {
    const label = element("p", "Label: ", "soft");
    const name = element("bdi", item.labels?.join(", ") || "none");
    label.append(name);
    block.append(label);
  }
  return block;
}

export class Checking {
  constructor(project, { announce, fail }) {
    Object.assign(this, { project, announce, fail, doubts: [], place: 0, done: [], busy: false });
    this.choices = new Choices(at("check-choices"), project.labels, {
      many: project.multi_label,
      say: announce,
      onChange: (labels) => {
        this.chosen = labels;
        if (!project.multi_label) this.#give(labels, labels[0]);
      },
    });
    if (project.multi_label) at("check-keep").replaceChildren("Store, and go on", " ", element("kbd", "Enter"));
    at("check-keep").addEventListener("click", () => this.keep());
    at("check-none").addEventListener("click", () => this.#give(null, "Label removed"));
    at("check-back").addEventListener("click", () => this.back());
    at("check-again").addEventListener("click", () => this.open());
  }

  async open() {
    say(at("check-status"), "Looking at the labels …");
    at("check-card").hidden = at("check-again").hidden = true;
    await this.#guarded(async () => {
      this.doubts = (await get("/api/doubts")).doubts;
      this.place = 0;
      this.done = [];
    });
    if (this.doubts) this.#show();
  }

  async #guarded(work) {
    if (this.busy) return;
    this.busy = true;
    try {
      await work();
    } catch (error) {
      say(at("check-status"), error.message, true);
      this.fail(error);
    } finally {
      this.busy = false;
    }
  }

  #show(spoken = "") {
    const doubt = this.doubts[this.place];
    at("check-card").hidden = !doubt;
    at("check-again").hidden = Boolean(doubt);
    if (!doubt) {
      const n = this.done.length;
      say(at("check-status"), n ? `All ${count(n)} are checked.` : "Nothing to check: no label looks wrong so far.");
      at("h-check").focus();
      return;
    }
    say(at("check-status"), `${count(this.place + 1)} of ${count(this.doubts.length)}`);
    this.chosen = doubt.items.length === 1 ? (doubt.items[0].labels ?? []) : [];
    say(at("check-why"), doubt.kind === "label" ? `This label looks wrong. ${doubt.why}` : doubt.why);
    at("check-texts").replaceChildren(...doubt.items.map((item) => textBlock(item, true)));
    this.choices.show(doubt.guesses ?? [], this.project.multi_label ? this.chosen : []);
    at("check-back").disabled = this.place === 0;
    this.announce(`${spoken}${at("check-why").textContent} ${doubt.items.map((item) => `${item.text.slice(0, 300)} Label: ${item.labels?.join(", ") || "none"}.`).join(" ")}`);
  }

  #give(labels, spoken) {
    return this.#guarded(async () => {
      const { items } = this.doubts[this.place];
      await answer(items.map((item) => ({ item: item.id, labels })));
      this.#advance(items.map((item) => ({ item: item.id, labels: item.labels })), `${spoken}. `);
      items.forEach((item) => (item.labels = labels));
      this.#show(`${spoken}. `);
    });
  }

  keep() {
    return this.#guarded(async () => {
      const doubt = this.doubts[this.place];
      const changed = this.project.multi_label && String(this.chosen) !== String(doubt.items[0].labels ?? []);
      if (changed) {
        const before = doubt.items.map((item) => ({ item: item.id, labels: item.labels }));
        const labels = [...this.chosen];
        await answer(doubt.items.map((item) => ({ item: item.id, labels })));
        this.#advance(before);
        doubt.items.forEach((item) => (item.labels = labels));
      } else {
        await post("/api/keep", { kind: doubt.kind, items: doubt.items.map((item) => item.id) });
        this.#advance([]);
      }
      this.#show("Kept. ");
    });
  }

  #advance(before) {
    this.done.push(before);
    this.place += 1;
  }

  back() {
    if (!this.done.length) return;
    this.#guarded(async () => {
      const before = this.done.pop();
      if (before.length) await answer(before);
      this.place -= 1;
      const labels = new Map(before.map((one) => [one.item, one.labels]));
      for (const item of this.doubts[this.place].items) if (labels.has(item.id)) item.labels = labels.get(item.id);
      this.#show("Back. ");
    });
  }

  key(event) {
    if (at("check-card").hidden || this.busy) return false;
    if (digitOf(event) === "0") this.#give(null, "Label removed");
    else if (this.choices.key(event)) return true;
    else if (event.key === "Enter" || (event.key === "k" && !this.choices.filtered)) this.keep();
    else return false;
    return true;
  }

  undo() {
    this.back();
  }
}

export class Grouping {
  constructor(project, { announce, fail }) {
    Object.assign(this, { announce, fail, project, groups: [], place: 0, busy: false });
    this.choices = new Choices(at("groups-choices"), project.labels, {
      many: project.multi_label,
      say: announce,
      onChange: (labels) => {
        this.chosen = labels;
        if (!project.multi_label) this.#give(labels);
      },
    });
    at("groups-skip").addEventListener("click", () => this.#next("Next group. "));
    at("groups-again").addEventListener("click", () => this.open());
  }

  async open() {
    say(at("groups-status"), "Looking for like texts …");
    at("groups-card").hidden = at("groups-again").hidden = true;
    try {
      this.groups = (await get("/api/groups")).groups;
      this.place = 0;
      this.#show();
    } catch (error) {
      say(at("groups-status"), error.message, true);
      this.fail(error);
    }
  }

  #show(spoken = "") {
    const group = this.groups[this.place];
    at("groups-card").hidden = !group;
    at("groups-again").hidden = Boolean(group);
    if (!group) {
      say(at("groups-status"), this.groups.length ? "These were all groups." : "There are no groups of like texts without labels.");
      at("h-groups").focus();
      return;
    }
    const title = `Group ${count(this.place + 1)} of ${count(this.groups.length)}: ${count(group.items.length)} texts`;
    say(at("groups-status"), title);
    this.chosen = [];
    at("groups-texts").replaceChildren(
      ...group.items.map((item) => {
        const row = document.createElement("li");
        const label = element("label", "");
        const box = element("input", "");
        box.type = "checkbox";
        box.value = item.id;
        const text = element("span", "", "text");
        text.dir = "auto";
        const more = element("button", "", "plain");
        more.type = "button";
        showText(text, item.text, more);
        label.append(box, text);
        row.append(label, more);
        return row;
      }),
    );
    this.choices.show(group.guesses ?? []);
    at("groups-texts").querySelector("input").focus();
    this.announce(`${spoken}${title}.`);
  }

  #next(spoken) {
    this.place += 1;
    this.#show(spoken);
  }

  async #give(labels) {
    const ticked = [...at("groups-texts").querySelectorAll("input:checked")].map((box) => box.value);
    if (!ticked.length) {
      say(at("groups-status"), "Tick the texts that get this label first: Space ticks one and goes to the next.", true);
      return;
    }
    if (this.busy) return;
    this.busy = true;
    try {
      await answer(ticked.map((item) => ({ item, labels })));
      this.#next(`${count(ticked.length)} texts: ${labels.join(", ")}. `);
    } catch (error) {
      say(at("groups-status"), error.message, true);
      this.fail(error);
    } finally {
      this.busy = false;
    }
  }

  key(event) {
    if (at("groups-card").hidden || this.busy) return false;
    const boxes = [...at("groups-texts").querySelectorAll("input")];
    const place = boxes.indexOf(document.activeElement);
    if (digitOf(event) === "0") this.#next("Next group. ");
    else if (event.key === " " && place >= 0) {
      boxes[place].checked = !boxes[place].checked;
      (boxes[place + 1] ?? boxes[place]).focus();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const to = place + (event.key === "ArrowDown" ? 1 : -1);
      boxes[Math.min(Math.max(to, 0), boxes.length - 1)].focus();
    } else if (this.choices.key(event)) return true;
    else if (event.key === "Enter" && this.project.multi_label && this.chosen.length) this.#give([...this.chosen]);
    else return false;
    return true;
  }
}
