// The page: what happens when a text changes, a label is chosen, or a table is opened.

import { ApiError, call, callPatiently, onMissingToken } from "./api.js";
import { byId, later, plural, say } from "./dom.js";
import { LabelList } from "./labels.js";
import { Table } from "./table.js";
import { Words } from "./words.js";

let model, list, words, table;
let request = null;
let chosen = null; // the label whose words are shown: one of the user, or else the most probable one
let isUsersChoice = false;
let fields = null; // of a row that was opened; null for a text that was typed

async function start() {
  onMissingToken(askForToken);
  model = await callPatiently("labels");
  byId("model").textContent = model.model;
  document.title = `${model.model} – try it`;
  const what = model.kind === "classifier" ? "label" : "target";
  const rule = model.top_k == null ? "" : ` · the ${plural(model.top_k, "most probable label")} of each text`;
  say(byId("facts"), plural(model.outputs.length, what) + rule);
  list = new LabelList(model, () => table.updateSoon(), choose);
  words = new Words(model, choose);
  table = new Table(model, list, openText);
  byId("text").addEventListener("input", () => {
    fields = null;
    textChanged();
  });
  listenForFiles();
  if (byId("text").value) textChanged();
}

function textChanged() {
  const text = byId("text").value;
  const n = [...text].length;
  say(byId("count"), n ? plural(n, "character") : "");
  request?.abort();
  if (!text.trim()) {
    words.setText("");
    list.setValues(null);
    list.choose(null);
    isUsersChoice = false;
    return;
  }
  words.setText(fields ?? text);
  predictSoon();
}

const predictSoon = later(200, predict);
const explainSoon = later(500, () => chosen != null && words.show(chosen));

async function predict() {
  const text = byId("text").value;
  if (!text.trim()) return;
  request = new AbortController();
  try {
    const { predictions } = await call("predict", { texts: [fields ?? text] }, request.signal);
    const byName = predictions[0].probabilities ?? predictions[0].values;
    list.setValues(Float64Array.from(list.names, (name) => byName[name]));
    problem("");
    if (!isUsersChoice) chosen = list.values.indexOf(Math.max(...list.values));
    list.choose(model.explains ? chosen : null);
    explainSoon();
  } catch (error) {
    if (error.name !== "AbortError") problem(error.message);
  }
}

function choose(k) {
  chosen = k;
  isUsersChoice = true;
  list.choose(k);
  words.show(k);
}

/** Look at the text of a row, which may have several fields. */
function openText(text) {
  fields = typeof text === "string" ? null : text;
  byId("text").value = fields ? fields.join("\n") : text;
  isUsersChoice = false;
  textChanged();
  byId("text").focus();
  byId("text").scrollIntoView({ block: "center" });
}

function listenForFiles() {
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", () => {
    const [file] = byId("file").files;
    if (file) openFile(file);
    byId("file").value = "";
  });
  const hasFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    byId("cover").hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) byId("cover").hidden = true;
  });
  document.addEventListener("drop", (event) => {
    byId("cover").hidden = true;
    if (!hasFile(event)) return;
    event.preventDefault();
    openFile(event.dataTransfer.files[0]);
  });
}

async function openFile(file) {
  try {
    await table.open(file);
    problem("");
  } catch (error) {
    problem(`${file.name}: ${error.message}`);
  }
}

function problem(text) {
  say(byId("problem"), text);
  byId("problem").hidden = !text;
}

function askForToken() {
  const dialog = byId("token-dialog");
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve, reject) => {
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      const token = byId("token").value.trim();
      byId("token").value = "";
      dialog.close("sent");
      resolve(token);
    };
    dialog.oncancel = () => reject(new ApiError(401, "This server needs a token; reload the page to send it."));
  });
}

start().catch((error) => problem(error.message));
