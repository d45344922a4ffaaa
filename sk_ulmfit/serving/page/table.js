// A table: its rows predicted in parts, shown page by page, and written as CSV.

import { byId, make, onNextFrame, plural, say, short, twoDigits } from "./dom.js";
import { callPatiently } from "./api.js";
import { decode, parseTable, writeTable } from "./csv.js";

const ROWS_ON_PAGE = 25;
const TEXTS_AT_ONCE = 32;
const CHARACTERS_AT_ONCE = 20_000;
const LARGEST_FILE = 100_000_000;

export class Table {
  /** `list` is the LabelList; `onOpen(text)` is called with the text of a row to look at. */
  constructor(model, list, onOpen) {
    Object.assign(this, { model, list, onOpen, table: null, request: null });
    this.updateSoon = onNextFrame(() => this.update());
    byId("predict-table").addEventListener("click", () => this.predict());
    byId("stop-table").addEventListener("click", () => this.request?.abort());
    byId("close-table").addEventListener("click", () => this.close());
    byId("previous").addEventListener("click", () => this.turn(-1));
    byId("next").addEventListener("click", () => this.turn(1));
    byId("only").addEventListener("input", () => this.turn(-Infinity));
    byId("download").addEventListener("click", () => this.download());
    byId("result-head").textContent = list.isClassifier ? "Labels" : "Values";
    byId("only-field").hidden = !list.isClassifier;
    const options = model.outputs.map((output, k) => make("option", { value: k }, `with ${output.name}`));
    byId("only").append(make("option", { value: "" }, "all"), make("option", { value: "none" }, "without a label"), ...options);
  }

  /** Open a file; raise an Error that says what is wrong with it. */
  async open(file) {
    if (file.size > LARGEST_FILE) throw new Error("The file has more than 100 MB; use sk-ulmfit predict for it.");
    const table = parseTable(decode(await file.arrayBuffer()));
    this.close();
    this.table = { ...table, name: file.name, values: new Array(table.rows.length).fill(null) };
    this.page = 0;
    byId("table-title").textContent = file.name;
    byId("columns").replaceChildren(make("legend", {}, "Text in"), ...table.columns.map((name) => this.columnBox(name)));
    byId("results").hidden = true;
    say(byId("table-status"), plural(table.rows.length, "row"));
    byId("table").hidden = false;
    byId("table").scrollIntoView({ block: "nearest" });
    byId("predict-table").focus();
    if (this.chosenColumns().length) this.predict();
  }

  close() {
    this.request?.abort();
    this.table = null;
    byId("table").hidden = true;
    this.list.setCounts(null);
  }

  columnBox(name) {
    const known = this.model.text_columns.filter((column) => this.table.columns.includes(column));
    const wanted = known.length === this.model.text_columns.length && known.length ? known : [this.longestColumn()];
    return make("label", {}, make("input", { type: "checkbox", value: name, checked: wanted.includes(name) }), make("span", { dir: "auto" }, name));
  }

  longestColumn() {
    const { columns, rows } = this.table;
    const sizes = columns.map((_, k) => rows.slice(0, 100).reduce((sum, row) => sum + row[k].length, 0));
    return columns[sizes.indexOf(Math.max(...sizes))];
  }

  /** Return the numbers of the columns with text, in the order of the training if the model knows them. */
  chosenColumns() {
    const ticked = [...byId("columns").querySelectorAll("input:checked")].map((box) => box.value);
    const rank = (name) => (this.model.text_columns.includes(name) ? this.model.text_columns.indexOf(name) : Infinity);
    return ticked.sort((a, b) => rank(a) - rank(b) || 0).map((name) => this.table.columns.indexOf(name));
  }

  textOf(row, columns) {
    return columns.length === 1 ? row[columns[0]] : columns.map((k) => row[k]);
  }

  async predict() {
    const columns = this.chosenColumns();
    if (!columns.length) {
      say(byId("table-status"), "Tick at least one column with text.");
      return;
    }
    const table = this.table;
    this.columns = columns;
    table.values.fill(null);
    this.request?.abort();
    const request = (this.request = new AbortController());
    this.running(true);
    try {
      const nTooLong = await this.predictRows(table, columns, request.signal);
      const note = nTooLong ? `; ${plural(nTooLong, "text")} too long, left out` : "";
      say(byId("table-status"), `${plural(table.rows.length - nTooLong, "row")} predicted${note}.`);
    } catch (error) {
      if (this.request === request) say(byId("table-status"), error.name === "AbortError" ? "Stopped." : error.message);
    }
    if (this.request === request) this.running(false);
    this.updateSoon();
  }

  async predictRows(table, columns, signal) {
    const length = (text) => (typeof text === "string" ? text.length : text.reduce((sum, field) => sum + field.length, 0));
    const { texts: mostTexts, characters: longest } = this.model.limits;
    let nTooLong = 0;
    for (let start = 0; start < table.rows.length; ) {
      const texts = [];
      const places = [];
      let characters = 0;
      while (start < table.rows.length && texts.length < Math.min(TEXTS_AT_ONCE, mostTexts)) {
        const text = this.textOf(table.rows[start], columns);
        if (texts.length && characters + length(text) > CHARACTERS_AT_ONCE) break;
        if (length(text) > longest - 100) nTooLong++;
        else {
          texts.push(text);
          places.push(start);
          characters += length(text);
        }
        start++;
      }
      if (!texts.length) continue;
      const { predictions } = await callPatiently("predict", { texts }, signal);
      predictions.forEach((prediction, i) => {
        const byName = prediction.probabilities ?? prediction.values;
        table.values[places[i]] = Float64Array.from(this.list.names, (name) => byName[name]);
      });
      byId("progress").value = start / table.rows.length;
      say(byId("table-status"), "");
      this.updateSoon();
    }
    return nTooLong;
  }

  running(is) {
    byId("progress").hidden = !is;
    byId("progress").value = 0;
    byId("stop-table").hidden = !is;
    byId("predict-table").disabled = is;
    byId("download").disabled = is;
    if (is) byId("results").hidden = false;
  }

  /** Show rows and counts with the present thresholds. */
  update() {
    if (!this.table) return;
    const { rows, values } = this.table;
    const decided = values.map((row) => (row && this.list.isClassifier ? this.list.decisions(row) : null));
    if (this.list.isClassifier) {
      const counts = this.list.names.map((_, k) => decided.reduce((n, row) => n + (row?.[k] ? 1 : 0), 0));
      this.list.setCounts(counts);
    }
    const only = byId("only").value;
    const isShown = (i) => only === "" || (decided[i] && (only === "none" ? !decided[i].includes(true) : decided[i][Number(only)]));
    const places = rows.map((_, i) => i).filter(isShown);
    const nPages = Math.max(1, Math.ceil(places.length / ROWS_ON_PAGE));
    this.page = Math.min(Math.max(this.page, 0), nPages - 1);
    const first = this.page * ROWS_ON_PAGE;
    const shown = places.slice(first, first + ROWS_ON_PAGE);
    byId("rows").replaceChildren(...shown.map((i) => this.rowOf(i, decided[i])));
    say(byId("page-number"), places.length ? `${first + 1} to ${first + shown.length} of ${places.length.toLocaleString("en")}` : "no rows");
    byId("previous").disabled = this.page === 0;
    byId("next").disabled = this.page === nPages - 1;
  }

  turn(by) {
    this.page += by;
    this.update();
  }

  rowOf(i, decided) {
    const text = this.textOf(this.table.rows[i], this.columns);
    const plain = typeof text === "string" ? text : text.join("\n");
    const open = make("button", { type: "button", class: "open", dir: "auto", title: "Look at this text", onclick: () => this.onOpen(text) }, plain.slice(0, 400) || "(empty)");
    // roles, since a phone shows cells below each other, and some browsers then forget that they are cells
    const cell = (kind, ...children) => make("td", { role: "cell", class: kind }, ...children);
    return make("tr", { role: "row" }, cell("number quiet", String(i + 1)), cell(null, open), cell(null, ...this.resultOf(i, decided)));
  }

  resultOf(i, decided) {
    const values = this.table.values[i];
    if (!values) return [make("span", { class: "quiet" }, this.request && !byId("progress").hidden ? "…" : "not predicted")];
    const chip = (k, figure) => make("span", { class: "chip", dir: "auto" }, this.list.names[k], make("span", { class: "quiet number" }, figure));
    if (!decided) return this.list.names.map((_, k) => chip(k, short(values[k])));
    const labels = this.list.names.map((_, k) => k).filter((k) => decided[k]).sort((a, b) => values[b] - values[a]);
    if (!labels.length) return [make("span", { class: "quiet" }, "none")];
    return labels.map((k) => chip(k, twoDigits(values[k])));
  }

  download() {
    const url = URL.createObjectURL(new Blob(["\ufeff", this.asCsv(byId("guard").checked)], { type: "text/csv;charset=utf-8" }));
    const link = make("a", { href: url, download: this.table.name.replace(/\.\w+$/, "") + "-labelled.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  /** Return the table with its labels and probabilities, or values, in columns as those of sk-ulmfit predict. */
  asCsv(guarded) {
    const { columns, rows, values } = this.table;
    const { names, isClassifier } = this.list;
    const added = isClassifier ? ["predicted_labels", ...names.map((name) => `proba_${name}`)] : names.map((name) => `value_${name}`);
    const kept = columns.map((_, k) => k).filter((k) => !added.includes(columns[k]));
    const mark = this.model.delimiter;
    const asList = names.some((name) => name.includes(mark) || name.startsWith("[") || name !== name.trim());
    const lines = rows.map((row, i) => {
      const cells = kept.map((k) => row[k]);
      if (!values[i]) return [...cells, ...added.map(() => "")];
      if (!isClassifier) return [...cells, ...values[i]];
      const decided = this.list.decisions(values[i]);
      const labels = names.filter((_, k) => decided[k]);
      return [...cells, asList ? JSON.stringify(labels) : labels.join(mark), ...Array.from(values[i], (p) => p.toFixed(6))];
    });
    return writeTable([[...kept.map((k) => columns[k]), ...added], ...lines], guarded);
  }
}
