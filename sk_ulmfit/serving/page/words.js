// The words of a text, coloured by what they say for a label or against it.

import { byId, make, say, signed } from "./dom.js";
import { call } from "./api.js";

const FAINTEST = 0.08; // of the strongest word; weaker ones have no colour
const LISTED = 6;

export class Words {
  /** `onChoose(k)` is called when another label is chosen in the list. */
  constructor(model, onChoose) {
    this.model = model;
    this.request = null;
    this.answers = new Map();
    this.text = ""; // or the fields of one
    if (!model.explains) return;
    const options = model.outputs.map((output, k) => make("option", { value: k }, output.name));
    byId("explained").append(...options);
    byId("explained").addEventListener("input", () => onChoose(Number(byId("explained").value)));
    byId("explained").setAttribute("aria-label", model.kind === "classifier" ? "Label to explain" : "Target to explain");
  }

  /** Forget the answers of the last text, whose colours fade until those of this one are there. */
  setText(text) {
    if (JSON.stringify(text) === JSON.stringify(this.text)) return; // fields are no text with commas
    this.text = text;
    this.answers.clear();
    this.request?.abort();
    byId("words").hidden = !this.model.explains || !String(text).trim();
    byId("marked").classList.add("stale");
    byId("strongest").classList.add("stale");
  }

  /** Show the words for an output. */
  async show(k) {
    if (!this.model.explains || !String(this.text).trim()) return;
    byId("explained").value = k;
    const most = this.model.limits.explained_characters;
    if ([...String(this.text)].length > most) {
      this.clear(`Words are shown for texts of up to ${most.toLocaleString("en")} characters.`);
      return;
    }
    const name = this.model.outputs[k].name;
    if (!this.answers.has(k)) {
      this.request?.abort();
      const request = (this.request = new AbortController());
      say(byId("words-status"), "Scoring the words …");
      try {
        const answer = await call("explain", { text: this.text, labels: [name] }, request.signal);
        if (request.signal.aborted) return;
        this.answers.set(k, answer);
      } catch (error) {
        if (error.name !== "AbortError") this.clear(error.message);
        return;
      }
    }
    this.draw(this.answers.get(k), name);
  }

  clear(reason) {
    byId("marked").replaceChildren();
    byId("strongest").replaceChildren();
    say(byId("words-status"), reason);
  }

  draw(answer, name) {
    const scores = answer.outputs[0].scores;
    const strongest = Math.max(...scores.map(Math.abs), 1e-9);
    const characters = [...answer.text]; // places are counted in code points
    const parts = [];
    let end = 0;
    answer.words.forEach((word, i) => {
      const share = Math.abs(scores[i]) / strongest;
      if (share < FAINTEST) return;
      parts.push(characters.slice(end, word.begin).join(""));
      const span = make("span", { class: scores[i] > 0 ? "for" : "against", title: signed(scores[i]) }, characters.slice(word.begin, word.end).join(""));
      span.style.setProperty("--s", share);
      parts.push(span);
      end = word.end;
    });
    parts.push(characters.slice(end).join(""));
    byId("marked").replaceChildren(...parts);
    byId("marked").classList.remove("stale");
    this.drawStrongest(answer, scores, strongest);
    say(byId("words-status"), answer.words.length ? `What each word says about ${name}.` : "The text has no words.");
  }

  drawStrongest(answer, scores, strongest) {
    const totals = new Map();
    answer.words.forEach(({ word }, i) => {
      const key = word.toLocaleLowerCase();
      const [first, total] = totals.get(key) ?? [word, 0];
      totals.set(key, [first, total + scores[i]]);
    });
    const words = [...totals.values()].filter(([, total]) => Math.abs(total) >= FAINTEST * strongest);
    const list = (sign) => words.filter(([, total]) => sign * total > 0).sort((a, b) => sign * (b[1] - a[1])).slice(0, LISTED);
    const titles = this.model.kind === "classifier" ? ["for it", "against it"] : ["raised by", "lowered by"];
    const line = (kind, title, found) => [
      make("dt", {}, make("span", { class: `key ${kind}`, "aria-hidden": "true" }), title),
      make("dd", { dir: "auto" }, found.map(([word, total]) => `${word} ${signed(total)}`).join(", ") || "nothing"),
    ];
    byId("strongest").replaceChildren(...line("for", titles[0], list(1)), ...line("against", titles[1], list(-1)));
    byId("strongest").classList.remove("stale");
  }
}
