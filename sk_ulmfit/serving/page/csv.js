// Tables as text: read with any usual delimiter and encoding, written with commas.

/** Return the text of a file: UTF-8 or UTF-16 by its mark, else UTF-8 if it is valid, else Windows-1252. */
export function decode(buffer) {
  const bytes = new Uint8Array(buffer);
  const mark = (bytes[0] << 8) | bytes[1];
  if (mark === 0xfffe) return new TextDecoder("utf-16le").decode(buffer);
  if (mark === 0xfeff) return new TextDecoder("utf-16be").decode(buffer);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(buffer);
  } catch {
    return new TextDecoder("windows-1252").decode(buffer);
  }
}

/** Return the columns and rows of a table with a header line; raise an Error that says what is wrong. */
export function parseTable(text) {
  const [header, ...rows] = records(text, delimiterOf(text));
  if (!header || header.every((cell) => !cell.trim())) throw new Error("The table is empty; its first line must name the columns.");
  const columns = uniqueNames(header);
  const longest = rows.findIndex((row) => row.length > columns.length);
  if (longest >= 0) throw new Error(`Row ${longest + 1} has ${rows[longest].length} cells, but there are ${columns.length} columns.`);
  if (!rows.length) throw new Error("The table has a header line, but no rows.");
  for (const row of rows) while (row.length < columns.length) row.push("");
  return { columns, rows };
}

/** Return the delimiter that occurs most in the header line, outside quotes. */
function delimiterOf(text) {
  let header = "";
  let quoted = false;
  for (const character of text) {
    if (character === '"') quoted = !quoted;
    else if ((character === "\n" || character === "\r") && !quoted) break;
    else if (!quoted) header += character;
  }
  const count = (mark) => header.split(mark).length;
  return [",", ";", "\t"].reduce((best, mark) => (count(mark) > count(best) ? mark : best));
}

function records(text, delimiter) {
  const found = [];
  let row = [];
  let cell = "";
  let quoted = false;
  const endCell = () => {
    row.push(cell);
    cell = "";
  };
  const endRow = () => {
    endCell();
    if (row.length > 1 || row[0].trim()) found.push(row);
    row = [];
  };
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (quoted) {
      if (character !== '"') cell += character;
      else if (text[i + 1] === '"') cell += text[++i];
      else quoted = false;
    } else if (character === '"' && !cell) quoted = true;
    else if (character === delimiter) endCell();
    else if (character === "\n" || character === "\r") {
      if (character === "\r" && text[i + 1] === "\n") i++;
      endRow();
    } else cell += character;
  }
  if (quoted) throw new Error("A quotation mark is opened and never closed.");
  if (cell || row.length) endRow();
  return found;
}

function uniqueNames(header) {
  const seen = new Set();
  return header.map((cell, k) => {
    const name = cell.trim() || `column ${k + 1}`;
    let unique = name;
    for (let n = 2; seen.has(unique); n++) unique = `${name} (${n})`;
    seen.add(unique);
    return unique;
  });
}

const NUMBER = /^[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?$/i;

/** Return rows as CSV; with `guarded`, a cell that a spreadsheet would run as a formula begins with an apostrophe. */
export function writeTable(rows, guarded) {
  const cell = (value) => {
    let text = String(value);
    if (guarded && /^[=+\-@\t\r\n]|^\s+[=+\-@]/.test(text) && !NUMBER.test(text.trim())) text = `'${text}`;
    return /[",;\t\r\n']|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}
