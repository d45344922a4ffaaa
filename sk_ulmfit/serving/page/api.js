// Requests to the server, with the token if there is one.

const KEY = "sk-ulmfit token";
let askForToken = async () => {
  throw new ApiError(401, "A token is needed.");
};

export class ApiError extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Set the function that asks the user for the token, and resolves to it. */
export function onMissingToken(ask) {
  askForToken = ask;
}

/** Send a request and return its answer; ask for the token where it is missing or wrong. */
export async function call(path, body, signal) {
  for (;;) {
    const response = await send(path, body, signal);
    if (response.status !== 401) return answerOf(response);
    sessionStorage.removeItem(KEY);
    sessionStorage.setItem(KEY, await askForToken());
  }
}

/** As `call`, but wait and try again while the server is busy. */
export async function callPatiently(path, body, signal) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await call(path, body, signal);
    } catch (error) {
      if (error.status !== 503 || attempt === 10) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.retryAfter || 1)));
    }
  }
}

async function send(path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const method = body ? "POST" : "GET";
  try {
    return await fetch(path, { method, headers, signal, body: body ? JSON.stringify(body) : undefined });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer. Is it still running?");
  }
}

async function answerOf(response) {
  let answer;
  try {
    answer = await response.json();
  } catch {
    throw new ApiError(response.status, `The server sent status ${response.status} without an explanation.`);
  }
  if (response.ok) return answer;
  throw new ApiError(response.status, answer.error, Number(response.headers.get("Retry-After")));
}
