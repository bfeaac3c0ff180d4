/* One text at a time. The next texts are here before they are needed. */

import { answer, at, count, element, get, percent, post, range, say, showText, tab, digitOf } from "/label/client.js";
import { Choices } from "/label/choices.js";

const AHEAD = 2; // texts that wait in the page
const AGAIN = 10_000; // milliseconds until texts that are open elsewhere are asked for again

export class Labelling {
  constructor(project, { announce, fail, go }) {
    this.project = project;
    this.announce = announce;
    this.fail = fail;
    this.queue = [];
    this.current = null;
    this.busy = false;
    this.chosen = [];
    this.heard = null; // the advice that was closed
    this.choices = new Choices(at("choices"), project.labels, {
      many: project.multi_label,
      say: announce,
      onChange: (labels) => {
        this.chosen = labels;
        if (!project.multi_label) this.answer(labels, labels[0]);
      },
    });
    at("confirm").hidden = !project.multi_label;
    at("confirm").addEventListener("click", () => this.confirm());
    at("skip").addEventListener("click", () => this.answer(null, "Skipped"));
    at("undo").addEventListener("click", () => this.undo());
    at("show-guess").checked = localStorage.getItem("label-guess") === "yes";
    at("show-guess").addEventListener("change", () => {
      localStorage.setItem("label-guess", at("show-guess").checked ? "yes" : "no");
      this.#showGuess();
    });
    at("advice-close").addEventListener("click", () => {
      this.heard = at("advice-text").textContent;
      at("advice").hidden = true;
      at("text").focus();
    });
    at("advice-finish").addEventListener("click", () => go("finish"));
    at("done-check").addEventListener("click", () => go("check"));
    at("done-finish").addEventListener("click", () => go("finish"));
  }

  async open() {
    if (!this.current) {
      await this.#guarded(() => this.#next("Text: "));
      return;
    }
    this.choices.focus();
    this.showProgress(await get("/api/progress")); // labels may have been mended meanwhile
  }

  confirm() {
    if (this.project.multi_label) this.answer([...this.chosen], this.chosen.join(", ") || "No label");
  }

  async answer(labels, spoken) {
    if (!this.current || this.busy) return;
    await this.#guarded(async () => {
      const result = await answer([{ item: this.current.id, labels }]);
      if (result) this.showProgress(result.progress);
      await this.#next(`${spoken}. Next text: `);
    });
  }

  async undo() {
    if (this.busy) return;
    await this.#guarded(async () => {
      const result = await post("/api/undo", { tab });
      if (!result.item) {
        this.announce("There is nothing to undo.", true);
        return;
      }
      if (this.current) this.queue.unshift(this.current);
      this.queue = this.queue.filter((item) => item.id !== result.item.id);
      this.showProgress(result.progress);
      this.#show(result.item, "Undone. Text: ");
    });
  }

  async #guarded(work) {
    this.busy = true;
    at("view-label").setAttribute("aria-busy", "true");
    try {
      await work();
    } catch (error) {
      this.fail(error);
    } finally {
      this.busy = false;
      at("view-label").removeAttribute("aria-busy");
    }
  }

  async #next(spoken) {
    this.current = null;
    if (!this.queue.length) await this.#fetch();
    const item = this.queue.shift() ?? null;
    this.#show(item, spoken);
    if (item && this.queue.length < AHEAD) this.#fetch().catch(() => {}); // the next answer reports it
  }

  async #fetch() {
    this.fetching ??= (async () => {
      const held = [this.current, ...this.queue].filter(Boolean).map((item) => item.id);
      const result = await post("/api/next", { tab, skip: held, n: AHEAD + 1 - this.queue.length });
      const known = new Set([this.current, ...this.queue].filter(Boolean).map((item) => item.id));
      this.queue.push(...result.items.filter((item) => !known.has(item.id)));
      this.elsewhere = result.elsewhere;
    })().finally(() => (this.fetching = null));
    return this.fetching;
  }

  #show(item, spoken) {
    this.current = item;
    this.chosen = [];
    for (const id of ["item", "choices", "skip"]) at(id).hidden = !item;
    at("confirm").hidden = !item || !this.project.multi_label;
    at("all-done").hidden = Boolean(item);
    at("show-guess-row").hidden = !item || this.choices.filtered; // there the guesses are on 1 to 3
    this.#showGuess();
    if (!item) {
      this.#showEnd();
      return;
    }
    this.unfold = showText(at("text"), item.text, at("unfold"));
    if (this.unfold && !this.choices.filtered) at("unfold").append(" ", element("kbd", "M"));
    this.choices.show(item.guesses);
    this.choices.focus();
    scrollTo(0, 0);
    this.announce(spoken + at("text").textContent);
  }

  #showEnd() {
    const n = this.elsewhere;
    const rest = n && `The last ${n === 1 ? "text is" : `${count(n)} texts are`} open in another tab or with somebody else. What is left there appears here.`;
    const words = rest || "Every text is labelled or skipped.";
    if (at("all-done-text").textContent !== words) this.announce(words);
    say(at("all-done-text"), words);
    clearTimeout(this.later);
    if (n) this.later = setTimeout(() => this.#lookAgain(), AGAIN);
  }

  async #lookAgain() {
    if (this.current || this.busy || at("view-label").hidden) return;
    await this.#guarded(() => this.#next("Text: "));
  }

  #showGuess() {
    const best = this.current?.guesses[0];
    at("guess").hidden = this.choices.filtered || !at("show-guess").checked || !best;
    if (!best) return;
    const guess = element("span", `Model: ${best.label} ${percent(best.probability)}`);
    guess.dir = "auto";
    at("guess").replaceChildren(guess, this.current.reason ? ` (${this.current.reason})` : "");
  }

  showProgress(progress) {
    const parts = [`${count(progress.n_labelled)} of ${count(progress.n_texts)} texts labelled`];
    if (progress.n_skipped) parts[0] += `, ${count(progress.n_skipped)} skipped`;
    if (progress.estimate) {
      const { value, low, high } = progress.estimate;
      parts.push(`accuracy on all texts about ${percent(value)} (${range(low, high)})`);
    }
    say(at("count"), `${parts.join("; ")}.`);
    const stop = progress.stop ? progress.advice : null;
    at("advice").hidden = !stop || stop === this.heard;
    if (stop && at("advice-text").textContent !== stop) {
      say(at("advice-text"), stop);
      if (stop !== this.heard) this.announce(stop);
    }
  }

  key(event) {
    if (!this.current && !["z", "u"].includes(event.key)) return false;
    if (this.busy) return digitOf(event) !== null;
    if (digitOf(event) === "0") {
      this.answer(null, "Skipped");
      return true;
    }
    if (this.choices.key(event)) return true;
    if (event.key === "Enter" && this.project.multi_label) {
      this.confirm();
      return true;
    }
    if (this.choices.filtered) return false;
    const does = {
      s: () => this.answer(null, "Skipped"),
      u: () => this.undo(),
      m: () => this.#toggleFold(),
      g: () => at("show-guess").click(),
    }[event.key.toLowerCase()];
    does?.();
    return Boolean(does);
  }

  #toggleFold() {
    if (!this.unfold) return;
    at("unfold").click();
    at("unfold").append(" ", element("kbd", "M"));
  }
}
