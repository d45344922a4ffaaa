// The list of labels with bars and thresholds, or of targets with values.

import { byId, make, onNextFrame, plural, say, short, twoDigits } from "./dom.js";
import { decide } from "./decide.js";

const SHOWN = 20;

export class LabelList {
  /** `onChange()` is called when a threshold moves, `onChoose(k)` when a label is chosen to be explained. */
  constructor(model, onChange, onChoose) {
    this.model = model;
    this.names = model.outputs.map((output) => output.name);
    this.isClassifier = model.kind === "classifier";
    this.draggable = this.isClassifier && model.top_k == null;
    this.values = null;
    this.counts = null;
    this.chosen = null;
    this.nShown = SHOWN;
    this.onChange = onChange;
    this.onChoose = onChoose;
    this.reset();
    this.rows = this.names.map((_, k) => this.makeRow(k));
    this.updateSoon = onNextFrame(() => this.update());
    byId("filter").addEventListener("input", () => this.show());
    byId("sort").addEventListener("input", () => this.show());
    byId("more").addEventListener("click", () => this.showMore());
    byId("reset").addEventListener("click", () => {
      this.reset();
      this.update();
      this.onChange();
      byId("outputs").focus();
    });
    byId("filter-field").hidden = this.names.length <= 10;
    byId("tools").hidden = this.names.length < 2;
    byId("hint").hidden = !this.draggable;
    if (!this.isClassifier) {
      byId("outputs-title").textContent = "Values";
      byId("sort").options[0].textContent = "value";
    }
    this.show();
  }

  /** Take the thresholds of the model. */
  reset() {
    this.thresholds = this.model.outputs.map((output) => output.threshold);
  }

  /** Show the probabilities or values of a text; null for none. */
  setValues(values) {
    this.values = values;
    this.show();
  }

  /** Show of how many rows of a table each label is predicted; null for none. */
  setCounts(counts) {
    this.counts = counts;
    this.update();
  }

  decisions(values = this.values) {
    return decide(values, this.thresholds, this.model);
  }

  /** Mark the label whose words are shown. */
  choose(k) {
    this.chosen = k;
    this.update();
  }

  makeRow(k) {
    const name = this.names[k];
    const number = make("b", {});
    const beside = make("span", { class: "quiet" });
    const mark = make("span", { class: "mark", "aria-hidden": "true" });
    const label = this.model.explains
      ? make("button", { type: "button", class: "name", dir: "auto", "aria-pressed": "false", title: "Show its words", onclick: () => this.onChoose(k) }, name)
      : make("span", { class: "name", dir: "auto" }, name);
    const fill = make("span", { class: "fill" });
    const bar = make("div", { class: "bar" }, fill);
    const item = make("li", { class: "row" }, make("div", { class: "row-head" }, mark, label, make("span", { class: "figures" }, number, " ", beside)));
    const ends = this.model.outputs[k].range;
    if (this.isClassifier || (ends && ends.every((end) => end != null))) item.append(bar);
    const row = { item, label, number, beside, mark, fill, slider: null };
    if (this.draggable) bar.append((row.slider = this.makeSlider(k)));
    return row;
  }

  makeSlider(k) {
    const slider = make("input", { type: "range", min: 0, max: 1, step: 0.001, "aria-label": `Threshold of ${this.names[k]}` });
    const move = (value) => {
      this.thresholds[k] = Math.min(1, Math.max(0, Number(value.toFixed(4))));
      this.updateSoon();
      this.onChange();
    };
    slider.addEventListener("input", () => move(slider.valueAsNumber));
    slider.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 0.01, ArrowUp: 0.01, ArrowLeft: -0.01, ArrowDown: -0.01, PageUp: 0.1, PageDown: -0.1 };
      if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      move(this.thresholds[k] + steps[event.key]);
    });
    return slider;
  }

  /** Put the rows that pass the filter into their order, the first ones only. */
  show() {
    const wanted = byId("filter").value.trim().toLocaleLowerCase();
    const keys = this.names.map((_, k) => k).filter((k) => this.names[k].toLocaleLowerCase().includes(wanted));
    const by = byId("sort").value;
    if (by === "name") keys.sort((a, b) => this.names[a].localeCompare(this.names[b], undefined, { numeric: true }));
    if (by === "probability" && this.values) keys.sort((a, b) => this.values[b] - this.values[a] || a - b);
    const shown = keys.slice(0, this.nShown);
    const focused = document.activeElement;
    byId("list").replaceChildren(...shown.map((k) => this.rows[k].item));
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus();
    byId("rest").hidden = shown.length === keys.length && keys.length > 0;
    byId("more").hidden = shown.length === keys.length;
    say(byId("rest-count"), keys.length ? `${shown.length} of ${keys.length} are shown.` : "No name contains this.");
    this.update();
  }

  showMore() {
    const before = this.nShown;
    this.nShown += 40;
    this.show();
    byId("list").children[before]?.querySelector("button, input")?.focus();
  }

  /** Bring figures, bars and decisions up to date. */
  update() {
    const decided = this.values && this.isClassifier ? this.decisions() : null;
    this.rows.forEach((row, k) => this.updateRow(row, k, decided ? decided[k] : false));
    byId("reset").hidden = this.model.outputs.every((output, k) => output.threshold === this.thresholds[k]);
    say(byId("decision"), this.summary(decided));
  }

  updateRow(row, k, isPredicted) {
    const value = this.values ? this.values[k] : null;
    row.item.classList.toggle("is-predicted", isPredicted);
    row.item.classList.toggle("is-explained", this.chosen === k);
    if (this.model.explains) row.label.setAttribute("aria-pressed", String(this.chosen === k));
    say(row.mark, isPredicted ? "✓" : "");
    if (!this.isClassifier) {
      this.updateValue(row, k, value);
      return;
    }
    say(row.number, value == null ? "" : twoDigits(value));
    row.fill.hidden = value == null;
    row.fill.style.setProperty("--p", value ?? 0);
    const count = this.counts ? ` · ${plural(this.counts[k], "row")}` : "";
    say(row.beside, (this.draggable ? `≥ ${this.thresholds[k].toFixed(2)}` : "") + count);
    if (!row.slider) return;
    row.slider.value = this.thresholds[k];
    const state = value == null ? "" : `; probability ${twoDigits(value)}, ${isPredicted ? "predicted" : "not predicted"}`;
    row.slider.setAttribute("aria-valuetext", this.thresholds[k].toFixed(2) + state);
  }

  updateValue(row, k, value) {
    say(row.number, value == null ? "" : short(value));
    const ends = this.model.outputs[k].range;
    if (!ends || ends.some((end) => end == null)) return;
    row.fill.hidden = value == null;
    row.fill.style.setProperty("--p", value == null ? 0 : (value - ends[0]) / (ends[1] - ends[0]));
    say(row.beside, `${short(ends[0])} to ${short(ends[1])}`);
  }

  summary(decided) {
    if (!this.values) return this.isClassifier ? "No text yet." : "";
    if (!decided) return "";
    const names = this.names.filter((_, k) => decided[k]);
    if (!names.length) return "No label reaches its threshold.";
    const shown = names.slice(0, 10).join(", ");
    return names.length > 10 ? `Predicted: ${shown} and ${names.length - 10} more` : `Predicted: ${shown}`;
  }
}
