// Elements of the page. Texts and labels enter it as text nodes only, so that markup in them stays text.

export const byId = (id) => document.getElementById(id);

/** Make an element with attributes, listeners (onclick, ...) and children: elements or strings. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...children);
  return element;
}

/** Set the text of an element if it changes, so that screen readers do not repeat it. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Call a function once, after its last call is `wait` milliseconds ago. */
export function later(wait, work) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), wait);
  };
}

/** Call a function at most once for each picture that the browser draws. */
export function onNextFrame(work) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      work();
    });
  };
}

export const plural = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;
export const twoDigits = (x) => (x > 0.995 && x < 1 ? ">0.99" : x > 0 && x < 0.005 ? "<0.01" : x.toFixed(2));
export const short = (x) => (Math.abs(x) >= 1e6 ? x.toExponential(2) : String(Number(x.toPrecision(4))));
export const signed = (x) => (x < 0 ? "−" : "+") + Number(Math.abs(x).toPrecision(2));
